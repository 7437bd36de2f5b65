"""Prompts out of memory's way, in a file that the system reads back where they are looked at."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import cast

from radixcache.files import ScratchFile
from radixcache.workload.workload import Call

__all__ = ["shelve"]


def shelve(calls: Iterable[Call]) -> Iterator[Call]:
    """The same calls, their prompts in a temporary file; answers are dropped.

    All are read before the first comes back. `units` then only has a length and slices that are buffers, as
    block digests need, and no other operation of bytes.

    Raises:
        TemporaryFileError: the temporary folder has no room.
    """
    kept, ends = [], [0]
    with closing(ScratchFile()) as file:
        for call in calls:
            file.write(call.units)
            ends.append(ends[-1] + len(call.units))
            kept.append(replace(call, units=b"", output=b""))
        pages = mmap.mmap(file.descriptor(), 0, access=mmap.ACCESS_READ) if ends[-1] else b""
    view = memoryview(pages)
    for call, start, end in zip(kept, ends[:-1], ends[1:], strict=True):
        yield replace(call, units=cast("bytes", view[start:end]))
