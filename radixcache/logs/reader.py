"""From lines of logs to requests: each record goes to the first format that claims it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from radixcache.errors import LogError
from radixcache.logs.exports.batch import Batches
from radixcache.logs.fields import describe
from radixcache.logs.format import Format, Line
from radixcache.logs.formats import FORMATS
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.servers.vllm import record_of
from radixcache.logs.source import MAX_LINE_BYTES, LongLine, read_lines

__all__ = ["LogReader"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FIELDS_NAMED = 8


class LogReader:
    """Reads the lines of some logs, one after another."""

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        self._rules = rules
        self._batches = Batches(rules, trace_block)
        self._formats: list[Format] = [
            self._batches if kind is Batches else kind(rules, trace_block) for kind in FORMATS
        ]
        self.num_lines = 0

    def read(self, sources: Sequence[str]) -> Iterator[LogRequest | BadLine]:
        """The requests and bad lines of logs; errors as `read_lines`."""
        for source in sources:
            self._learn_answers(source)
        for source in sources:
            for number, data in _documents(read_lines(source)):
                self.num_lines += 1
                yield from self.parse(source, number, data)
        for kind in self._formats:
            yield from kind.finish()

    def parse(self, source: str, number: int, data: bytes) -> Iterator[LogRequest | BadLine]:
        """The requests of the next line, or what is wrong with it; some come with a later line."""
        try:
            if isinstance(data, LongLine):
                raise InvalidRecordError(f"longer than {MAX_LINE_BYTES:,} bytes")
            most = MAX_LINE_BYTES if self._rules.max_bytes is None else self._rules.max_bytes
            if len(data) > most:
                raise InvalidRecordError(
                    f"is {len(data):,} bytes long; at most {most:,} are read (--max-line)"
                )
            records = _records(data)
        except InvalidRecordError as error:
            yield BadLine(source, number, str(error))
            return
        for record in records:
            try:
                if not isinstance(record, dict):
                    raise InvalidRecordError(f"is {describe(record)}, not an object")
                yield from self._within_limits(Line(source, number, record), len(data))
            except InvalidRecordError as error:
                yield BadLine(source, number, str(error))

    def _within_limits(self, line: Line, size: int) -> Iterator[LogRequest | BadLine]:
        """The requests of a record, unless the line of `size` bytes is too long for their kind."""
        most = size if self._rules.max_text_bytes is None else self._rules.max_text_bytes
        for found in self._read(line):
            if size > most and _is_text(found):
                raise InvalidRecordError(
                    f"is {size:,} bytes long; at most {most:,} of text are tokenized at once, "
                    "unless --max-line allows more"
                )
            yield found

    def _read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        for kind in self._formats:
            if kind.claims(line.record):
                yield from kind.read(line)
                return
        raise InvalidRecordError(f"is of no known format: it has {_named(line.record)}")

    def _learn_answers(self, source: str) -> None:
        """Read a batch's answers before its requests, wherever they are in the list of files.

        What is wrong with the file is told when it is read.
        """
        if source == "-" or not Path(source).is_file():
            return
        with suppress(LogError, InvalidRecordError):
            for number, data in _documents(read_lines(source)):
                if b'"custom_id"' not in data:
                    if number < _FIELDS_NAMED:
                        return
                    continue
                for record in _records(data):
                    if isinstance(record, dict) and self._batches.is_answer(record):
                        self._batches.learn(record)
                    elif number < _FIELDS_NAMED:
                        return


def _named(record: Mapping[str, Any]) -> str:
    names = list(record)
    shown = ", ".join(name[:40] for name in names[:_FIELDS_NAMED])
    return (
        f"{shown} and {len(names) - _FIELDS_NAMED} more"
        if len(names) > _FIELDS_NAMED
        else shown or "no field"
    )


def _documents(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers; all lines as one where the first only opens an object or a list."""
    for number, line in lines:
        data = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if data.strip() in (b"{", b"["):
            yield number, _joined(data, lines)
        elif data.strip():
            yield number, data
        else:
            continue
        break
    yield from lines


def _joined(first: bytes, lines: Iterator[tuple[int, bytes]]) -> bytes:
    document = bytearray(first)
    for _, line in lines:
        document += b"\n"
        document += line
        if isinstance(line, LongLine) or len(document) > MAX_LINE_BYTES:
            return LongLine()
    return bytes(document)


def _records(data: bytes) -> list[Any]:
    """The values of a line: one, or those of a list of objects."""
    logged = record_of(data)
    value = _parse_json(data) if logged is None else logged
    return value if isinstance(value, list) and any(isinstance(item, dict) for item in value) else [value]


def _parse_json(data: bytes) -> Any:
    try:
        value = json.loads(data.decode("utf-8-sig"))  # json would take UTF-16, too, and raw surrogates
    except UnicodeDecodeError as error:
        culprit = error.object[error.start]
        raise InvalidRecordError(f"not UTF-8: byte {error.start} is 0x{culprit:02x}") from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise InvalidRecordError(f"not JSON: {what} at column {error.colno}") from None
    except RecursionError:
        raise InvalidRecordError("not JSON: nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidRecordError(f"not JSON: {error}") from None
    if b"\\ud" in data.lower():
        _refuse_lone_surrogates(value)
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    """JSON can escape half a surrogate pair; that is no text and no tokenizer takes it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        culprit = ord(error.object[error.start])
        raise InvalidRecordError(f"contains half a surrogate pair (\\u{culprit:04x})") from None


def _is_text(found: LogRequest | BadLine) -> bool:
    return isinstance(found, LogRequest) and (found.messages is not None or found.prompt is not None)
