"""The command line: one command a file.

Commands import what they need when they run, so that `--help` and `--version` load no torch.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from radixcache.errors import RadixCacheError

__all__ = ["main"]

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

_EXIT_SIGNALLED = 128
_ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

# What the parser raises for a wrong command line; typer names the class only through its subclasses.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

# Each is `NAME_command` in the module of its name.
_COMMANDS = {
    "replay": "Run a log through a model, cache off and on.",
    "simulate": "Hit rates by cache size and policy, without a model.",
    "curve": "LRU hit rate at every cache size at once.",
    "plan": "What fits into a GPU's memory.",
    "doctor": "Why a log misses the cache, and how to fix it.",
    "template": "Prove that a chat template keeps prefixes stable.",
    "report": "One HTML page of what other commands wrote.",
    "convert": "Write a log in another form; without its text, too.",
    "demo": "Try it on the log that comes with the package.",
}


class _Command(TyperCommand):
    """A command whose usage reads `LOG...`, as manual pages do."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        return [re.sub(r"\]\.\.\.$", "...]", piece.replace("{", "").replace("}", "")) for piece in pieces]

    def get_help(self, ctx: Any) -> str:
        # The type of an argument, which says nothing that its text does not.
        return re.sub(r" <[\w\[\]]+>(?=  )", lambda found: " " * len(found[0]), super().get_help(ctx))


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
    """A prefix cache for language models: what it reuses, what it misses, and why.

    Logs are JSON lines of chat-completions requests, prompts, token ids or block hashes, plain or compressed;
    `radixcache COMMAND --help` shows examples.
    """


def _make_app(names: Sequence[str]) -> typer.Typer:
    """The app with these commands alone: typer works out the options of all that it is given."""
    app = typer.Typer(
        name="radixcache",
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        module = import_module(f"radixcache.cli.{name}")
        app.command(name, cls=_Command, short_help=_COMMANDS[name])(getattr(module, f"{name}_command"))
    return app


class _EndedBySignal(BaseException):
    """A signal that asks the process to end: what is open is closed and cleaned up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    0 if all went well; 1 if a replay found wrong answers; 2 after one line `error: ...` on standard error,
    for bad input of any kind and what the system refuses; 130 if interrupted, 143 if terminated. Anything
    else that is raised is a bug and keeps its traceback.
    """
    # Read when torch loads its OpenMP runtime: threads wait a few microseconds for their next
    # piece of work before they sleep, which a small step's many short operations pay off.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 must not end a run
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        with _ending_cleanly():
            return _run(arguments)
    except _EndedBySignal as ended:
        return _EXIT_SIGNALLED + ended.number
    finally:
        os.umask(umask)  # narrowed for outputs made from private logs


def _run(arguments: list[str]) -> int:
    try:
        app = _make_app([name for name in _COMMANDS if name == arguments[0]] or list(_COMMANDS))
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
        _give_up_stdout()  # keeps the interpreter from flushing into the closed pipe at exit
        return EXIT_PIPE_CLOSED
    except MemoryError as error:
        return _fail(f"out of memory: {error}" if str(error) else "out of memory")
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_stdout()
        where = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{where}{error.strerror or error}")
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # the parser or rich has done the same
            return EXIT_PIPE_CLOSED
        raise


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Turn signals that would end the process at once into an exception, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
        raise _EndedBySignal(number)

    replaced = [n for n in _ENDING_SIGNALS if signal.getsignal(n) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


def _open_closed_streams() -> None:
    """Give standard output and error, if the caller closed them, somewhere to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def _give_up_stdout() -> None:
    from radixcache.cli.outputs import give_up_stdout

    give_up_stdout()


def _fail(message: str) -> int:
    from radixcache.report.text import visible

    print(f"error: {visible(message, limit=1000)}", file=sys.stderr)
    return EXIT_ERROR
