"""Where converted models are kept, and how a model folder is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from radixcache.errors import ModelError
from radixcache.home import cache_home


def models_home() -> Path:
    """The folder of converted models, `models` in the package's `cache_home`. Nothing is created here."""
    return cache_home() / "models"


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Returns `target`, first filling it with `build(empty_folder)` if it does not exist yet.

    `build` writes into a temporary folder beside `target`, which takes the name `target` only after `build`
    has returned: a reader never sees half a model, and a failed or killed build leaves nothing under that
    name. Of several processes one builds and the others wait for it.

    Raises:
        ModelError: the folder cannot be written. What `build` raises passes through.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):
            if not target.is_dir():
                _build(target, build)
    except OSError as error:
        source = error.filename
        if isinstance(source, str) and not Path(source).is_relative_to(target.parent):
            raise ModelError(f"{source}: cannot be read: {error.strerror}") from error
        raise ModelError(f"model folder {target} cannot be written: {error}") from error
    return target


def _build(target: Path, build: Callable[[Path], None]) -> None:
    _remove_leftovers(target)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        build(partial)
        partial.chmod(0o755)  # temporary names are made private to the user
        for file in partial.iterdir():
            file.chmod(0o644)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove_leftovers(target: Path) -> None:
    """Removes what a killed build left; the lock is held, so no live build owns it."""
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
