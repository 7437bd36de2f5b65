"""Prompt logs: JSON lines in several formats, read one line at a time.

A line is a chat-completions request (`messages`, optionally `tools`, also wrapped as the `body` of an
OpenAI batch line), a `prompt` text, or `prompt_token_ids`; each may have `session_id` or `session`,
`timestamp`, `max_tokens` and `response`. Lines of several formats may share a file.

Where traces are asked for, a line may hold hashes of a prompt's blocks instead (Mooncake), or a whole agent
session of such requests; a session's document may also be spread over the lines of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from radixcache.errors import LogError
from radixcache.logs.detect import parse_line
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.source import MAX_LINE_BYTES, LongLine, read_lines

__all__ = ["BadLine", "LogRequest", "read_logs"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_logs(
    paths: Iterable[str],
    *,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] | None = None,
    limit: int | None = None,
    trace_block: int | None = None,
) -> Iterator[LogRequest]:
    """Yield the requests of one log after another; nothing is read further than it is consumed.

    Args:
        paths: files (plain, .gz, .xz, .zst) or `-` for standard input.
        strict: raise on the first bad line instead of skipping it.
        on_bad_line: told of every line that is skipped. Blank lines are skipped without a word.
        limit: stop after so many requests in total.
        trace_block: take block hashes, too; a hash of a Mooncake trace stands for so many tokens. With None
            they are bad lines.

    Raises:
        LogError: naming the source, if it cannot be opened or decompressed; with `strict` also naming the
            line and the reason, if a line is no request.
        ValueError: if `limit` or `trace_block` is below 1.
    """
    for name, value in (("limit", limit), ("trace_block", trace_block)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; at least 1 is needed")
    return _requests(paths, strict, on_bad_line, limit, trace_block)


def _requests(
    paths: Iterable[str],
    strict: bool,
    on_bad_line: Callable[[BadLine], None] | None,
    limit: int | None,
    trace_block: int | None,
) -> Iterator[LogRequest]:
    count = 0
    for source in paths:
        for number, data in _documents(read_lines(source)):
            for found in _parse(source, number, data, trace_block):
                if isinstance(found, LogRequest):
                    yield found
                    count += 1
                    if count == limit:
                        return
                elif strict:
                    raise LogError(str(found))
                elif on_bad_line is not None:
                    on_bad_line(found)


def _documents(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers; all lines as one where the first is only the opening of an object."""
    begun = False
    for number, line in enumerate(lines, start=1):
        data = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if not begun and data.strip() == b"{":
            yield number, _joined(data, lines)
            return
        begun = begun or bool(data.strip())
        yield number, data


def _joined(first: bytes, lines: Iterator[bytes]) -> bytes:
    document = bytearray(first)
    for line in lines:
        document += b"\n"
        document += line
        if isinstance(line, LongLine) or len(document) > MAX_LINE_BYTES:
            return LongLine()
    return bytes(document)


def _parse(source: str, number: int, data: bytes, trace_block: int | None) -> Iterator[LogRequest | BadLine]:
    try:
        if isinstance(data, LongLine):
            raise InvalidRecordError(f"longer than {MAX_LINE_BYTES} bytes")
        if data.strip():
            yield from parse_line(source, number, data, trace_block)
    except InvalidRecordError as error:
        yield BadLine(source, number, str(error))
