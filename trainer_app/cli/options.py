"""Arguments and options that several verbs share, each with one meaning."""

from __future__ import annotations

from typing import Annotated

import typer

Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE... [KEY=VALUE...]", help="Run files, merged in order, and overrides."),
]
Name = Annotated[str | None, typer.Option(metavar="RUN", help="The run's name [default: <name>-<UTC time>].")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NS", envvar="TRAINER_NAMESPACE", help="[default: the context's]."),
]
Context = Annotated[str | None, typer.Option(metavar="NAME", help="Of the kubeconfig [default: the current one].")]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="The S3 server as this machine reaches it.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", "-f", metavar="FILE", help="Values of the cluster: a file, or a name such as kind."),
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value, over the files.")]
Image = Annotated[str | None, typer.Option(metavar="REPOSITORY:TAG", help="In place of the values' image.")]
