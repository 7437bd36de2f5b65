"""`radixcache demo`: the example log that comes with the package, as far as what is installed can take it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import typer

from radixcache.extras import missing_modules

__all__ = ["demo_command"]

_CHECKOUT = Path(__file__).parents[2] / "examples" / "logs" / "assistant.jsonl"


def demo_command() -> None:
    """Run the example log: through the embedded model with the engine installed, else through the simulator.

    The log is 73 requests of a bicycle shop's assistant. The embedded model, 93 MB, is downloaded on first
    use.

    Examples:

      radixcache demo
    """
    missing = missing_modules("engine")
    with _example_log() as log:
        if not missing:
            from radixcache.cli.replay import replay_command

            typer.echo(
                "Replaying the example log through a model, with the prefix cache off and on.", err=True
            )
            replay_command([str(log)])
            return

        from radixcache.cli.doctor import doctor_command
        from radixcache.cli.simulate import simulate_command

        typer.echo(
            f"No engine to replay the example log ({', '.join(missing)} not installed), so simulating the "
            'cache, then asking why it missed. To replay it: pip install "radixcache[engine]"',
            err=True,
        )
        simulate_command([str(log)])
        doctor_command([str(log)])


@contextmanager
def _example_log() -> Iterator[Path]:
    """The log as a file: of the installed package, or of the checkout that the package is imported from."""
    packaged = files("radixcache") / "examples" / "assistant.jsonl"
    if not packaged.is_file():
        yield _CHECKOUT
        return
    with as_file(packaged) as path:
        yield path
