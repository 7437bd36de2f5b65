"""Prompt logs: JSON lines in several formats, read one line at a time.

A line is a chat-completions request (`messages`, optionally `tools`, also wrapped as the `body` of an
OpenAI batch line), a `prompt` text, or `prompt_token_ids`; each may have `session_id` or `session`,
`timestamp`, `max_tokens` and `response`. Lines of several formats may share a file.

Where traces are asked for, a line may hold hashes of a prompt's blocks instead (Mooncake), or a whole agent
session of such requests; a session's document may also be spread over the lines of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from radixcache.errors import LogError
from radixcache.logs.detect import parse_line
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.source import MAX_LINE_BYTES, LongLine, read_lines

__all__ = ["FORMATS", "BadLine", "LineRules", "LogRequest", "read_logs"]

FORMATS = (
    "chat-completions requests (messages, tools), also as the body of an OpenAI batch line; prompt; "
    "prompt_token_ids; block hashes of a Mooncake trace (hash_ids, input_length); agent sessions (requests)"
)
"""What a line can hold, with the fields that say so."""

_DEFAULT_RULES = LineRules()
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_logs(
    paths: Iterable[str],
    *,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] | None = None,
    limit: int | None = None,
    trace_block: int | None = None,
    rules: LineRules = _DEFAULT_RULES,
    must_find: bool = False,
) -> Iterator[LogRequest]:
    """Yield the requests of one log after another; nothing is read further than it is consumed.

    Args:
        paths: files (plain, .gz, .xz, .zst) or `-` for standard input.
        strict: raise on the first bad line instead of skipping it.
        on_bad_line: told of every line that is skipped. Blank lines are skipped silently.
        limit: stop after this number of requests in total.
        trace_block: take block hashes, too; tokens that a hash of a Mooncake trace stands for. With None they
            are bad lines.
        rules: how lines are read.
        must_find: raise if there is no request at all.

    Raises:
        LogError: naming the source, if it cannot be opened or decompressed; with `strict` also naming the
            line and the reason, if a line is not a request; with `must_find` naming the sources and the
            formats that are known.
        ValueError: if `limit` or `trace_block` is below 1.
    """
    for name, value in (("limit", limit), ("trace_block", trace_block)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return _requests(list(paths), strict, on_bad_line, limit, trace_block, rules, must_find)


def _requests(
    paths: Sequence[str],
    strict: bool,
    on_bad_line: Callable[[BadLine], None] | None,
    limit: int | None,
    trace_block: int | None,
    rules: LineRules,
    must_find: bool,
) -> Iterator[LogRequest]:
    count = lines = 0
    for source in paths:
        for number, data in _documents(read_lines(source)):
            lines += 1
            for found in _parse(source, number, data, trace_block, rules):
                if isinstance(found, LogRequest):
                    yield found
                    count += 1
                    if count == limit:
                        return
                elif strict:
                    raise LogError(str(found))
                elif on_bad_line is not None:
                    on_bad_line(found)
    if must_find and not count:
        names = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        if not lines:
            raise LogError(f"{names}: no request was found, every line is blank")
        raise LogError(f"{names}: no request was found in {lines:,} lines; known are {FORMATS}")


def _documents(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers; all lines as one where the first is only the opening of an object."""
    for number, line in lines:
        data = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if data.strip() == b"{":
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


def _parse(
    source: str, number: int, data: bytes, trace_block: int | None, rules: LineRules
) -> Iterator[LogRequest | BadLine]:
    try:
        if isinstance(data, LongLine):
            raise InvalidRecordError(f"longer than {MAX_LINE_BYTES:,} bytes")
        most = MAX_LINE_BYTES if rules.max_bytes is None else rules.max_bytes
        if len(data) > most:
            raise InvalidRecordError(f"is {len(data):,} bytes long; at most {most:,} are read (--max-line)")
        most = len(data) if rules.max_text_bytes is None else rules.max_text_bytes
        for found in parse_line(source, number, data, trace_block, rules):
            if len(data) > most and _is_text(found):
                raise InvalidRecordError(
                    f"is {len(data):,} bytes long; at most {most:,} of text are tokenized at once, "
                    "unless --max-line allows more"
                )
            yield found
    except InvalidRecordError as error:
        yield BadLine(source, number, str(error))


def _is_text(found: LogRequest | BadLine) -> bool:
    return isinstance(found, LogRequest) and (found.messages is not None or found.prompt is not None)
