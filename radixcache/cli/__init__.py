"""The command line: one command a file.

Commands import what they need when they run, so that `--help` and `--version` load no torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from radixcache.errors import RadixCacheError

__all__ = ["main"]

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

# What the parser raises for a wrong command line; typer names the class only through its subclasses.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

# Each is `NAME_command` in the module of its name.
_COMMANDS = ("replay", "simulate", "curve", "plan", "doctor", "report", "demo")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"radixcache {version('radixcache')}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """A prefix cache for language models: what it reuses, what it misses, and why."""


def _make_app(names: Sequence[str]) -> typer.Typer:
    """The app with these commands alone: typer works out the options of all that it is given."""
    app = typer.Typer(
        name="radixcache",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        module = import_module(f"radixcache.cli.{name}")
        app.command(name)(getattr(module, f"{name}_command"))
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 if all went well; 1 if a replay found wrong answers; 2 after one line `error: ...` on standard error,
    for bad input of any kind; 130 if interrupted. Anything else that is raised is a bug and keeps its
    traceback.
    """
    # Read when torch loads its OpenMP runtime: threads wait a few microseconds for their next
    # piece of work before they sleep, which a small step's many short operations pay off.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 must not end a run
    try:
        app = _make_app([name for name in _COMMANDS if name == arguments[0]] or _COMMANDS)
        code = app(args=arguments, prog_name="radixcache", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except _UsageError as error:
        return _fail(getattr(error, "format_message", error.__str__)())
    except (RadixCacheError, ValueError) as error:
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; keep the interpreter from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich has done the same
            return EXIT_PIPE_CLOSED
        raise


def _fail(message: str) -> int:
    from radixcache.report.text import visible

    print(f"error: {visible(message, limit=1000)}", file=sys.stderr)
    return EXIT_ERROR
