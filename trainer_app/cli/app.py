"""The verbs by name. A verb's module is imported when it runs, so that `trainer --help` imports only typer."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup


class Verb(NamedTuple):
    """Where a verb's function is, and its line in `trainer --help`."""

    module: str
    function: str
    help: str


VERBS: dict[str, Verb] = {
    "train": Verb("trainer_app.cli.train", "train", "Train the model of a run file."),
    "tune": Verb("trainer_app.cli.tune", "tune", "Search the space of a run file for its best trial."),
    "test": Verb("trainer_app.cli.test", "test", "Score a run's best checkpoint on the test split."),
    "validate": Verb("trainer_app.cli.validate", "validate", "Check a run file; start nothing."),
    "schema": Verb("trainer_app.cli.schema", "schema", "Print the run file's JSON Schema, for editors."),
    "results": Verb("trainer_app.cli.results", "results", "Show a run: trials, metrics, the best checkpoint."),
    "list": Verb("trainer_app.cli.list", "list_runs", "List the runs in a storage, or of a namespace."),
    "render": Verb("trainer_app.cli.render", "render", "Print the Kubernetes objects of a run."),
    "submit": Verb("trainer_app.cli.submit", "submit", "Start a run on a Kubernetes cluster."),
    "status": Verb("trainer_app.cli.status", "status", "Show how far a run on Kubernetes is."),
    "logs": Verb("trainer_app.cli.logs", "logs", "Print the log of a run on Kubernetes."),
    "wait": Verb("trainer_app.cli.wait", "wait", "Wait until a run on Kubernetes ends."),
    "stop": Verb("trainer_app.cli.stop", "stop", "Let a run commit a checkpoint and give its nodes back."),
    "resume": Verb("trainer_app.cli.resume", "resume", "Resume a run that was stopped, failed or is gone."),
    "delete": Verb("trainer_app.cli.delete", "delete", "Delete a run's objects; its storage stays."),
    "doctor": Verb("trainer_app.cli.doctor", "doctor", "Check what a run on Kubernetes needs."),
}

EPILOG = (
    "Exit codes: 0 done; 1 the run failed; 2 bad input, nothing was started; 130 interrupted. "
    "TRAINER_STORAGE_URI, TRAINER_RUN and TRAINER_NAMESPACE replace --storage, --name and --namespace. "
    "TRAINER_DEBUG=1 shows tracebacks."
)


class VerbGroup(TyperGroup):
    """A group that lists verbs without importing them: only the verb that runs, or whose --help is shown, is."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        return _command(cmd_name, verb)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run a verb, which returns its exit code, or None for 0."""
        try:
            code = super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            from trainer_app.cli.stdout import READER_GONE, forget_stdout

            forget_stdout()
            raise typer.Exit(READER_GONE) from None
        if isinstance(code, int) and code:
            raise typer.Exit(code)
        return None


def _command(name: str, verb: Verb) -> Any:
    function = getattr(import_module(verb.module), verb.function)
    verb_app = typer.Typer(add_completion=False, rich_markup_mode=None)
    verb_app.command(name, help=function.__doc__ or verb.help, epilog=EPILOG)(function)
    return typer.main.get_command(verb_app)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("trainer-app")
        except PackageNotFoundError:
            number = "(not installed: no version)"
        typer.echo(f"trainer {number}")
        raise typer.Exit()


# rich_markup_mode=None: help as plain text, 20 ms less and no rich in the process.
app = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train and tune PyTorch Lightning models with Ray, from one run file."""


def trainer() -> Any:
    """Return the command, without typer's hook for uncaught exceptions, which prints pages."""
    return typer.main.get_command(app)
