"""What was found out by trial about rounding on this machine, remembered between processes.

A trial's outcome depends on the libraries, the CPU, the settings that limit or steer it, the number of
threads, and on what the process did before (MKL takes its mode from the first product). All of that is in the
fingerprint under which outcomes are kept; the last shows in the bits of a small probe.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import xxhash

from radixcache.home import cache_home
from radixcache.numerics.blas import request_reproducible_blas
from radixcache.numerics.inputs import cancelling_product
from radixcache.numerics.rules import RowRule

_FORMAT = 4  # raised when trials change
_SETTINGS = ("MKL_", "ONEDNN_", "DNNL_", "ATEN_", "OMP_NUM", "KMP_", "GOMP_", "OPENBLAS_")
_CPU_LINES = (
    "vendor_id",
    "cpu family",
    "model",
    "stepping",
    "flags",
    "Features",
    "CPU implementer",
    "CPU part",
)
_PROBED = (1, 2, 3, 5, 8, 16)


def fingerprint() -> str:
    """Names all that decides how products are rounded in this process, with threads as they are now."""
    request_reproducible_blas()
    return _fingerprint(torch.get_num_threads())


@lru_cache(maxsize=16)
def _fingerprint(threads: int) -> str:
    digest = xxhash.xxh3_128()
    settings = sorted(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    facts = (
        _FORMAT,
        torch.__version__,
        torch.__config__.show(),
        platform.machine(),
        _cpu(),
        settings,
        threads,
    )
    digest.update(repr(facts).encode())
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            rows, weight = cancelling_product(max(_PROBED), 96, 64, dtype)
            for count in _PROBED:
                digest.update(torch.nn.functional.linear(rows[:count], weight).float().numpy().tobytes())
    return digest.hexdigest()


def _cpu() -> tuple[str, ...]:
    """What the system says of the first processor, less what changes from moment to moment."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (platform.processor(),)
    first = text.partition("\n\n")[0].splitlines()
    return tuple(line for line in first if line.partition(":")[0].strip() in _CPU_LINES)


def remembered(name: str, find: Callable[[], Any], valid: Callable[[Any], bool]) -> Any:
    """What is called `name` on this machine, from memory or from `find`, whose outcome is then kept.

    A memory that cannot be read or written, or that holds anything not `valid`, costs the trial and nothing
    else. Outcomes are what JSON can hold.
    """
    memory = _memory(fingerprint())
    if name not in memory or not valid(memory[name]):
        memory[name] = find()
        _save(fingerprint(), memory)
    return memory[name]


def remembered_rule(name: str, find: Callable[[], RowRule | None]) -> RowRule | None:
    """A row rule by `remembered`."""

    def encoded() -> list[int] | None:
        rule = find()
        return None if rule is None else [rule.step, *rule.sizes]

    kept = remembered(name, encoded, _is_rule)
    return None if kept is None else RowRule(kept[0], tuple(kept[1:]))


def forget() -> None:
    """Forget what this process has read of the memory; files stay."""
    _memory.cache_clear()


def _is_rule(kept: Any) -> bool:
    if kept is None:
        return True
    if not isinstance(kept, list) or len(kept) < 2 or any(type(number) is not int for number in kept):
        return False
    return kept[0] >= 0 and kept[1] > 0 and kept[1:] == sorted(kept[1:])


@lru_cache(maxsize=16)
def _memory(name: str) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):
        memory.update(json.loads(_file(name).read_bytes()))
    return memory


def _save(name: str, memory: dict[str, Any]) -> None:
    """Write the file whole or not at all, with what other processes have added to it."""
    file = _file(name)
    with suppress(OSError, ValueError, TypeError):
        file.parent.mkdir(parents=True, exist_ok=True)
        merged = memory
        with suppress(OSError, ValueError, TypeError):
            merged = {**json.loads(file.read_bytes()), **memory}
        handle, partial = tempfile.mkstemp(prefix=".numerics-", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(merged, out)
            Path(partial).replace(file)
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise


def _file(name: str) -> Path:
    return cache_home() / "numerics" / f"{name}.json"
