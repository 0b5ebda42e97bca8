"""The verbs by name. A verb's module is imported when it runs, so that `trainer --help` imports only typer."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperArgument, TyperGroup

from trainer_app.errors import InputError

# A verb's name, and its line in `trainer --help`. Its function is in the module of its name.
VERBS: Final = {
    "init": "Write a project that trains at once.",
    "train": "Train the model of a run file.",
    "tune": "Search the space of a run file for its best trial.",
    "test": "Score a run's best checkpoint on the test split.",
    "predict": "Predict rows with a run's best checkpoint.",
    "export": "Write a run's module as a file for other programs.",
    "validate": "Check a run file; start nothing.",
    "schema": "Print the run file's JSON Schema, for editors.",
    "results": "Show a run: trials, metrics, the best checkpoint.",
    "report": "Write a page of runs, sweeps and curves, for a browser.",
    "ui": "Show runs in a browser: pages of a storage, read-only.",
    "tensorboard": "Show a run's event files in TensorBoard.",
    "fetch": "Copy a run's artifacts, best checkpoint and logs here.",
    "list": "List the runs in a storage, or of a namespace.",
    "clean": "Show or remove what killed runs left in a storage.",
    "render": "Print the Kubernetes objects of a run.",
    "submit": "Start a run on a Kubernetes cluster.",
    "status": "Show how far a run on Kubernetes is.",
    "logs": "Print the log of a run on Kubernetes.",
    "wait": "Wait until a run on Kubernetes ends.",
    "stop": "Let a run commit a checkpoint and give its nodes back.",
    "resume": "Resume a run that was stopped, failed or is gone.",
    "delete": "Delete a run's objects; its storage stays.",
    "doctor": "Check what a run on Kubernetes needs.",
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
        return _load_command(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: Any) -> Any:
        """Run a verb, which returns its exit code, or None for 0."""
        try:
            code = super().invoke(ctx)
        except typer.BadParameter as error:
            if text := _explain_value(error):
                raise InputError(text) from error
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            from trainer_app.cli.stdout import READER_GONE, forget_stdout

            forget_stdout()
            raise typer.Exit(READER_GONE) from None
        if isinstance(code, int) and code:
            raise typer.Exit(code)
        return None


def _explain_value(error: Any) -> str:
    """Return in one line what an option allows whose value pydantic refused; "" of what typer says itself."""
    from pydantic import ValidationError

    if not isinstance(error.__cause__, ValidationError):
        return ""
    from trainer_app.config.problems import explain_type

    option = "" if isinstance(error.param, TyperArgument) else f"{error.param.opts[0]}: "
    return option + explain_type(error.__cause__.errors()[0])


def _load_command(name: str) -> Any:
    module = import_module(f"trainer_app.cli.{name}")
    function = getattr(module, "list_runs" if name == "list" else name)  # `list` is Python's own
    verb_app = typer.Typer(add_completion=False, rich_markup_mode=None)
    verb_app.command(name, epilog=EPILOG)(function)
    command: Any = typer.main.get_command(verb_app)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            _show_metavar_only(parameter)
    return command


def _show_metavar_only(argument: Any) -> None:
    """Show an argument in the help as its metavar is written: typer adds brackets, dots and a Python type."""
    argument.get_usage_pieces = lambda ctx: [argument.metavar]
    argument.display_type_rich = lambda ctx: None


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
