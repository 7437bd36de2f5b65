"""Optional dependencies: the extras of the package, and one line that says which one to install."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from radixcache.errors import MissingExtraError

__all__ = ["EXTRAS", "missing_modules", "require_extra"]

EXTRAS: dict[str, tuple[str, ...]] = {
    # transformers loads weights with safetensors, and onto a GPU with accelerate
    "engine": ("torch", "transformers", "accelerate", "safetensors"),
    "plot": ("matplotlib",),
    "server": ("starlette", "uvicorn"),
}
"""The modules that each extra installs, as far as the package imports them."""


def missing_modules(extra: str) -> list[str]:
    """Modules of an extra that are not installed; nothing is imported."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def require_extra(extra: str, what: str, *, modules: Sequence[str] = ()) -> None:
    """Find out that an extra is missing before work is done for nothing.

    Args:
        extra: a key of `EXTRAS`.
        what: what needs it, for the message: a command, an option, a class.
        modules: those of the extra's modules that are needed, by default all.

    Raises:
        MissingExtraError: `WHAT needs MODULES: pip install "radixcache[EXTRA]"`.
    """
    missing = [name for name in missing_modules(extra) if name in (modules or EXTRAS[extra])]
    if missing:
        named = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        raise MissingExtraError(f'{what} needs {named}: pip install "radixcache[{extra}]"')
