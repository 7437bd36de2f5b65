"""Disk-backed logs: token ids and records in temporary files, a few numbers a request in memory."""

from __future__ import annotations

import mmap
import pickle
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

from radixcache.files import ScratchFile
from radixcache.logs.record import LogRequest
from radixcache.tokens import TOKEN_BYTES, PackedTokens, pack
from radixcache.workload.views import Request
from radixcache.workload.workload import Call, LazySequence, count_sessions

__all__ = ["IndexedCall", "RecordSpool", "TokenSpool", "spill_to_disk", "turns"]

_NONE = -1
_NO_TIME = float("nan")


@dataclass(frozen=True, slots=True)
class IndexedCall(Call):
    """A call that knows its place in the log."""

    index: int = 0


def _temporary_file(owner: object) -> ScratchFile:
    """A file without a name that is closed, and so gone, when its owner is."""
    file = ScratchFile()
    weakref.finalize(owner, file.close)
    return file


class _Names:
    """Texts numbered by first appearance."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


class RecordSpool:
    """The requests of a log in a temporary file, to be read again at any place.

    A request of block hashes is not kept: there is no text in it.
    """

    def __init__(self) -> None:
        self._file = _temporary_file(self)
        self._starts = array("q")
        self._sizes = array("i")
        self._end = 0

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, entry: LogRequest) -> None:
        """Add the next request."""
        data = b"" if entry.blocks is not None else pickle.dumps(entry, pickle.HIGHEST_PROTOCOL)
        self._starts.append(self._end)
        self._sizes.append(len(data))
        self._file.write(data)
        self._end += len(data)

    def __getitem__(self, index: int) -> LogRequest | None:
        """A request; None for one of block hashes."""
        size = self._sizes[index]
        if not size:
            return None
        self._file.seek(self._starts[index])
        data = self._file.read(size)
        self._file.seek(self._end)
        entry = pickle.loads(data)
        assert isinstance(entry, LogRequest)
        return entry

    def __iter__(self) -> Iterator[LogRequest | None]:
        return (self[index] for index in range(len(self)))

    def close(self) -> None:
        """Drop the file."""
        self._file.close()


class TokenSpool:
    """`LoggedCalls` on disk: packed ids in a temporary file, the rest in arrays (some 60 bytes a call).

    Attributes:
        unit_tokens, counted_answers: as in `LoggedCalls`.
        message_counts: number of ends of messages that are known of each call.
    """

    def __init__(self) -> None:
        self._file = _temporary_file(self)
        self._end = 0
        self.unit_tokens = 1
        self.starts = array("q")
        self.prompt_units = array("i")
        self.output_units = array("i")
        self.message_counts = array("i")
        self.prompt_tokens = array("i")
        self.output_tokens = array("i")
        self.timestamps = array("d")
        self.sessions = array("i")
        self.namespaces = array("i")
        self.sources = array("i")
        self.lines = array("i")
        self.session_names = _Names()
        self.namespace_names = _Names()
        self.source_names = _Names()
        self.counted_answers = 0

    def __len__(self) -> int:
        return len(self.starts)

    def append(self, call: Call, namespace: str, ends: array[int] | None = None) -> None:
        """Add the next call, in the namespace that the caller gives it.

        Args:
            call: the call.
            namespace: its namespace here.
            ends: where its messages end, in tokens; None if that is not known.
        """
        packed = b"" if ends is None else ends.tobytes()
        self.starts.append(self._end)
        self._file.write(call.units)
        self._file.write(call.output)
        self._file.write(packed)
        self._end += len(call.units) + len(call.output) + len(packed)
        self.message_counts.append(len(packed) // TOKEN_BYTES)
        self.prompt_units.append(len(call.units) // TOKEN_BYTES)
        self.output_units.append(len(call.output) // TOKEN_BYTES)
        self.prompt_tokens.append(call.prompt_tokens)
        self.output_tokens.append(call.output_tokens)
        self.timestamps.append(_NO_TIME if call.timestamp is None else call.timestamp)
        self.sessions.append(_NONE if call.session is None else self.session_names.number(call.session))
        self.namespaces.append(self.namespace_names.number(namespace))
        self.sources.append(self.source_names.number(call.source))
        self.lines.append(call.line)

    @property
    def calls(self) -> Sequence[IndexedCall]:
        """The calls, each read from disk when it is asked for."""
        return LazySequence(len(self), self.call)

    @property
    def message_ends(self) -> Sequence[array[int] | None]:
        """Where the messages of each call end, in tokens; None for a call of which that is not known."""
        return LazySequence(len(self), self.ends)

    @property
    def num_sessions(self) -> int:
        """Number of different sessions; a call without one is a session by itself."""
        return count_sessions(None if number < 0 else number for number in self.sessions)

    def units(self, index: int) -> tuple[PackedTokens, PackedTokens]:
        """Prompt and answer of a call, packed."""
        prompt, output = self.prompt_units[index] * TOKEN_BYTES, self.output_units[index] * TOKEN_BYTES
        data = self._read(self.starts[index], prompt + output)
        return PackedTokens(data[:prompt]), PackedTokens(data[prompt:])

    def ends(self, index: int) -> array[int] | None:
        """Where the messages of a call end, in tokens, ascending; None if that is not known."""
        count = self.message_counts[index]
        if not count:
            return None
        before = (self.prompt_units[index] + self.output_units[index]) * TOKEN_BYTES
        found = array("i")
        found.frombytes(self._read(self.starts[index] + before, count * TOKEN_BYTES))
        return found

    def timestamp(self, index: int) -> float | None:
        """Seconds, or None."""
        time = self.timestamps[index]
        return time if time == time else None  # noqa: PLR0124 - a NaN is not itself

    def session(self, index: int) -> str | None:
        """Its name, or None."""
        number = self.sessions[index]
        return None if number < 0 else self.session_names.texts[number]

    def namespace(self, index: int) -> str:
        """Its name."""
        return self.namespace_names.texts[self.namespaces[index]]

    def call(self, index: int) -> IndexedCall:
        """A call as it was added."""
        prompt, output = self.units(index)
        return IndexedCall(
            namespace=self.namespace(index),
            units=prompt,
            prompt_tokens=self.prompt_tokens[index],
            output=output,
            output_tokens=self.output_tokens[index],
            session=self.session(index),
            timestamp=self.timestamp(index),
            source=self.source_names.texts[self.sources[index]],
            line=self.lines[index],
            index=index,
        )

    def close(self) -> None:
        """Drop the file."""
        self._file.close()

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(size)
        self._file.seek(self._end)
        return data


def turns(spool: TokenSpool, order: Sequence[int], *, outputs: bool) -> Sequence[Request]:
    """The calls of a spool in an order of arrival, read from disk as they are asked for."""

    def make(place: int) -> Request:
        call = spool.call(order[place])
        return Request(
            call, call.namespace, pack(call.units), pack(call.output) if outputs else PackedTokens()
        )

    return LazySequence(len(order), make)


def spill_to_disk(calls: Iterable[Call]) -> Iterator[Call]:
    """The same calls, their prompts in a temporary file that the system reads back where they are looked at.

    Answers are dropped. All calls are read before the first comes back. `units` then only has a length and
    slices that are buffers, as block digests need, and no other operation of bytes.

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
