"""Arguments and options that several verbs share, each with one meaning; no letter means two things."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

# Run files, and what is made of them.
Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE... [KEY=VALUE...]", help="Run files, merged in order, and overrides."),
]
Name = Annotated[str | None, typer.Option(metavar="RUN", help="The run's name [default: <name>-<UTC time>].")]
Task = Annotated[Literal["train", "tune"], typer.Argument(metavar="train|tune", help="What to do with the run file.")]
SubmitTask = Annotated[
    Literal["train", "tune", "test", "predict"],
    typer.Argument(metavar="train|tune|test|predict", help="What to do with the run file, or with a RUN."),
]
SubmitItems = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE... [KEY=VALUE...]",
        help="Run files, merged in order, and overrides. For test and predict: RUN, and after -- the verb's options.",
    ),
]
Code = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="The folder of your modules: all files that git does not ignore are uploaded."),
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Of --code: files or folders that are uploaded although git ignores them."),
]
Image = Annotated[str | None, typer.Option(metavar="REPOSITORY:TAG", help="The image, in place of the values' one.")]

# The cluster.
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NS",
        envvar="TRAINER_NAMESPACE",
        help="The namespace [default: the kubeconfig context's].",
    ),
]
Context = Annotated[
    str | None, typer.Option(metavar="NAME", help="A context of the kubeconfig [default: the current one].")
]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", "-f", metavar="FILE", help="Values of the cluster: a file, or a name such as kind."),
]
# Without a letter: in `logs` a user of kubectl takes -f for --follow, and would read the log of another run.
SubmittedValues = Annotated[
    list[str] | None,
    typer.Option("--values", metavar="FILE", help="If the run's objects are gone: the values it was submitted with."),
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value; overrides the files.")]
Strings = Annotated[
    list[str] | None,
    typer.Option("--set-string", metavar="KEY=VALUE", help="The same, whose value is a string whatever it looks like."),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=VALUE]", help="An environment variable of head and workers; NAME takes its value from here."
    ),
]
Grace = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the checkpoint at the end of the epoch.")
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Show the driver's log until the run ends (no short form: -f is --values).")
]

# Runs and where they are stored.
# For verbs that change something: the newest run that names this user as its submitter may be another user's.
NamedRun = Annotated[str, typer.Argument(metavar="RUN", help="A run's name.")]
RemoteRun = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's name [default: the newest that you submitted].")
]
# For verbs that only read a storage. With -n the newest is that which this user submitted.
RunOrNewest = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run's name, or a path or URI with a slash in it [default: the newest]."),
]
Storage = Annotated[
    str | None, typer.Option(metavar="URI", help="Where runs are stored [default: TRAINER_STORAGE_URI, or runs].")
]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="The S3 server's URL as this machine reaches it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]

# A driver on this machine or on the Ray cluster that RAY_ADDRESS names.
Resume = Annotated[
    str | None, typer.Option(metavar="RUN", help="Resume this run, by its name, path or URI; FILE may be left out.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS", help="A class, by import path, that checkpoints may hold; over checkpoint.allow."),
]
ImportFrom = Annotated[
    list[str] | None,
    typer.Option(metavar="DIR", help="A folder whose modules can be imported, as those beside a FILE and here."),
]
Trial = Annotated[str | None, typer.Option(metavar="TRIAL", help="A trial of a sweep [default: the best].")]
Epoch = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The checkpoint of this epoch, from 1 [default: the best].")
]
OutputFile = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="A path or an S3 URI [default: by the run's name].")
]
RunStorage = Annotated[str | None, typer.Option(metavar="URI", help="Short for storage.uri=URI.")]
Events = Annotated[bool, typer.Option("--json", help="Print one JSON object a line on stdout, and nothing else.")]
Log = Annotated[str | None, typer.Option(metavar="FILE", help="Where Ray's and Lightning's output goes; - for stderr.")]
Test = Annotated[bool, typer.Option("--test", help="At the end, score the best checkpoint on the test split.")]


def join_sets(sets: list[str] | None, strings: list[str] | None) -> list[str]:
    """Return --set and --set-string as one list, in Helm's order."""
    from trainer_app.launch.helm import StringValue

    return [*(sets or ()), *map(StringValue, strings or ())]
