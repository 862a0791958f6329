"""The ``hilnas`` command: collects the commands of the installed packages, and reports all errors in one way.

Exit codes: 0 done, 1 failed (a sentence on standard error), 2 wrong usage, 3 a study ended without any feasible
candidate, 4 the coordinator does not answer, 130 interrupted.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import click
import structlog
import typer
from pydantic import ValidationError

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import shown
from hilnas.plugins import load

GROUP = "hilnas.cli.mains"
# typer may bundle its own copy of click, whose exceptions do not derive from click's
_ClickException: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)  # type: ignore[assignment]
EXIT_FAILED, EXIT_USAGE, EXIT_INFEASIBLE, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
REFUSED_BODY = (400, 422)
HELP = {
    "serve": "Start the coordinator (API and dashboard).",
    "agent": "Run a measurement agent on this machine.",
    "search": "Start, watch and stop searches.",
    "measure": "Measure one preset or architecture file on one device.",
    "compare": "Compare models on one device: which is faster, and how surely.",
    "export": "Export an architecture as .pte or ONNX.",
    "bundle": "Build what runs on a phone: loader, libraries, runner.",
    "virtual-phone": "Start a phone made of software, for tests and first steps.",
    "bench": "Run the published benchmarks.",
    "parent": "Import and list models that a search starts from.",
    "plugins": "List everything that plugins can add to.",
    "train": "Lease training jobs of winners.",
    "demo": "A complete search on this machine: what `make run` does.",
}


class Commands(click.Group):
    """Imports a command's module only when the command is used: ``hilnas --help`` imports no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = {point.name for point in entry_points(group=GROUP)}
        return [name for name in HELP if name in found] + sorted(found - set(HELP))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        for point in entry_points(group=GROUP, name=name):
            command: click.Command = typer.main.get_command(point.load())  # type: ignore[assignment]
            refuse_non_finite(command)
            return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, HELP.get(name, "")) for name in self.list_commands(ctx)])


def refuse_non_finite(command: Any) -> None:
    """NaN and infinity pass the bounds of options, and then every comparison that would refuse them."""
    for parameter in command.params:
        parameter.callback = _finite(parameter.callback)
    for one in getattr(command, "commands", {}).values():
        refuse_non_finite(one)


def _finite(then: Callable[..., Any] | None) -> Callable[..., Any]:
    def check(ctx: Any, parameter: Any, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter(f"a finite number is needed, got {value}", ctx=ctx, param=parameter)
        return then(ctx, parameter, value) if then is not None else value

    return check


def exit_code_of(error: HilnasError) -> int:
    """A value that cannot work is wrong usage, also where the coordinator said so."""
    wrong_usage = isinstance(error, InvalidConfig) or getattr(error, "status", 0) in REFUSED_BODY
    return int(getattr(error, "exit_code", EXIT_USAGE if wrong_usage else EXIT_FAILED))


def sentence_of(error: ValidationError) -> str:
    """The first value that a model refused."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said[:1].lower()}{said[1:]}, got {str(first['input'])[:80]!r}" if where else said


def main() -> None:
    """Entry point: a HilnasError, a value that a model refuses and a file that cannot be used each become one sentence
    and an exit code."""
    group = Commands(
        name="hilnas", help="Search small language models on the devices they will run on.",
        no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]},
        epilog="--plugin FILE loads a Python file with parts of your own (docs/extending.md).",
    )  # fmt: skip
    # logs go to standard error: standard output is for results, which scripts read
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        arguments = load(sys.argv[1:])
        sys.exit(group.main(arguments, standalone_mode=False) or 0)
    except (click.exceptions.Exit, typer.Exit) as end:
        sys.exit(end.exit_code)
    except (click.ClickException, _ClickException) as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(error.exit_code)  # type: ignore[attr-defined]
    except (click.Abort, typer.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except HilnasError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(exit_code_of(error))
    except BrokenPipeError:
        sys.exit(0)
    except ValidationError as error:
        click.echo(f"error: {sentence_of(error)}", err=True)
        sys.exit(EXIT_USAGE)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"error: {shown(str(error.filename))}: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)
    except ModuleNotFoundError as error:
        click.echo(f"error: this command needs the package {error.name}: pip install 'hilnas[all]'", err=True)
        sys.exit(EXIT_FAILED)
