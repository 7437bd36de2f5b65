"""Prompt logs: JSON lines in several formats, read one line at a time.

A line is a chat-completions request (`messages`, optionally `tools`, also wrapped as the `body` of an
OpenAI batch line), a `prompt` text, or `prompt_token_ids`; each may have `session_id` or `session`,
`timestamp`, `max_tokens` and `response`. Lines of several formats may share a file.
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
) -> Iterator[LogRequest]:
    """Yield the requests of one log after another; nothing is read further than it is consumed.

    Args:
        paths: files (plain, .gz, .xz, .zst) or `-` for standard input.
        strict: raise on the first bad line instead of skipping it.
        on_bad_line: told of every line that is skipped. Blank lines are skipped without a word.
        limit: stop after so many requests in total.

    Raises:
        LogError: naming the source, if it cannot be opened or decompressed; with `strict` also naming the
            line and the reason, if a line is no request.
        ValueError: if `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; at least 1 is needed")
    return _requests(paths, strict, on_bad_line, limit)


def _requests(
    paths: Iterable[str], strict: bool, on_bad_line: Callable[[BadLine], None] | None, limit: int | None
) -> Iterator[LogRequest]:
    count = 0
    for source in paths:
        for number, data in enumerate(read_lines(source), start=1):
            try:
                request = _parse(source, number, data)
            except InvalidRecordError as error:
                bad = BadLine(source, number, str(error))
                if strict:
                    raise LogError(str(bad)) from None
                if on_bad_line is not None:
                    on_bad_line(bad)
                continue
            if request is None:
                continue
            yield request
            count += 1
            if count == limit:
                return


def _parse(source: str, number: int, data: bytes) -> LogRequest | None:
    if isinstance(data, LongLine):
        raise InvalidRecordError(f"longer than {MAX_LINE_BYTES} bytes")
    if number == 1:
        data = data.removeprefix(_BYTE_ORDER_MARK)
    if not data.strip():
        return None
    return parse_line(source, number, data)
