"""Prompt logs: JSON lines in the formats that people have, recognised by their fields, read line by line.

`docs/log-formats.md` lists the formats with the fields that each maps. Lines of several formats may share a
file. Where traces are asked for, a line may hold hashes of a prompt's blocks instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from radixcache.errors import LogError
from radixcache.logs.format import ReadOptions
from radixcache.logs.reader import LogReader
from radixcache.logs.record import BadLine, LogRequest

__all__ = ["BadLine", "LogRequest", "ReadOptions", "read_logs"]


def read_logs(
    paths: Iterable[str],
    *,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] | None = None,
    limit: int | None = None,
    trace_block: int | None = None,
    options: ReadOptions | None = None,
) -> Iterator[LogRequest]:
    """Yield the requests of one log after another; nothing is read further than it is consumed.

    Only files that hold a batch's answers are read first, so that answers join their requests.

    Args:
        paths: files (plain, .gz, .xz, .zst) or `-` for standard input.
        strict: raise on the first bad line instead of skipping it.
        on_bad_line: told of every line that is skipped. Blank lines are skipped without a word.
        limit: stop after so many requests in total.
        trace_block: take block hashes, too; a hash stands for so many tokens where a trace does not say. With
            None they are bad lines.
        options: which fields hold what, if not those that the formats know; its `trace_block` is not used.

    Raises:
        LogError: naming the source, if it cannot be opened or decompressed; with `strict` also naming the
            line and the reason, if a line is no request.
        ValueError: if `limit` or `trace_block` is below 1.
    """
    for name, value in (("limit", limit), ("trace_block", trace_block)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    given = options or ReadOptions()
    chosen = ReadOptions(
        trace_block, given.session_field, given.time_field, given.prompt_field, given.time_unit
    )
    return _requests(list(paths), strict, on_bad_line, limit, chosen)


def _requests(
    paths: list[str],
    strict: bool,
    on_bad_line: Callable[[BadLine], None] | None,
    limit: int | None,
    options: ReadOptions,
) -> Iterator[LogRequest]:
    count = 0
    for found in LogReader(options).read(paths):
        if isinstance(found, LogRequest):
            yield found
            count += 1
            if count == limit:
                return
        elif strict:
            raise LogError(str(found))
        elif on_bad_line is not None:
            on_bad_line(found)
