"""Prompt logs: JSON lines in the formats that people have, recognised by their fields, read line by line.

`docs/log-formats.md` lists the formats with the fields that each maps. Lines of several formats may share a
file. Where traces are asked for, a line may hold hashes of a prompt's blocks instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from radixcache.errors import LogError
from radixcache.logs.formats import list_formats
from radixcache.logs.reader import LogReader
from radixcache.logs.record import BadLine, LogRequest
from radixcache.logs.rules import LineRules

__all__ = ["BadLine", "LineRules", "LogRequest", "list_formats", "read_logs"]

_DEFAULT_RULES = LineRules()


def read_logs(
    paths: Iterable[str],
    *,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    limit: int | None = None,
    trace_block: int | None = None,
    rules: LineRules = _DEFAULT_RULES,
    must_find: bool = False,
) -> Iterator[LogRequest]:
    """Yield the requests of one log after another; nothing is read further than it is consumed.

    Only files that hold a batch's answers are read first, so that answers join their requests.

    Args:
        paths: files (plain, .gz, .xz, .zst) or `-` for standard input.
        strict: raise on the first bad line instead of skipping it.
        on_bad_line: told of every line that is skipped. Blank lines are skipped silently.
        on_note: told, for each request, of fields that were not read though they may matter, and why a prompt
            is only a part of what the model was given.
        limit: stop after this number of requests in total.
        trace_block: take block hashes, too; tokens that a hash stands for where a trace does not say. With
            None they are bad lines.
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
    reader = LogReader(rules, trace_block)
    return _requests(list(paths), reader, strict, on_bad_line, on_note, limit, must_find)


def _requests(
    paths: Sequence[str],
    reader: LogReader,
    strict: bool,
    on_bad_line: Callable[[BadLine], None] | None,
    on_note: Callable[[str], None] | None,
    limit: int | None,
    must_find: bool,
) -> Iterator[LogRequest]:
    count = 0
    for found in reader.read(paths):
        if isinstance(found, LogRequest):
            if on_note is not None:
                for note in found.notes:
                    on_note(note)
                if found.partial:
                    on_note(f"the prompt is partial: {found.partial}")
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
        if not reader.num_lines:
            raise LogError(f"{names}: no request was found, every line is blank")
        raise LogError(
            f"{names}: no request was found in {reader.num_lines:,} lines; known are {list_formats()}"
        )
