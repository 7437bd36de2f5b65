"""Logs into memory for commands that need no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radixcache.cli.logs import BadLines, Reading

if TYPE_CHECKING:
    from radixcache.report.terminal.progress import Progress
    from radixcache.workload.load import Encoder
    from radixcache.workload.workload import Workload

__all__ = ["LoadedLog", "read_workload"]


@dataclass(frozen=True, slots=True)
class LoadedLog:
    """A log as the cache sees it.

    Attributes:
        workload: the requests in the order of the log.
        files: the files they came from, folders expanded.
        tokenizer: the tokenizer that was used; None if no text was in the log.
        bad_lines: lines that were skipped.
    """

    workload: Workload
    files: tuple[str, ...]
    tokenizer: str | None
    bad_lines: int


def read_workload(
    logs: Sequence[str],
    tokenizer: str,
    reading: Reading,
    *,
    bad_lines: BadLines,
    progress: Progress,
    notify: Callable[[str], None],
    trace_block: int,
    namespace_by: str | None = None,
    answers: bool = False,
    on_disk: bool = False,
) -> LoadedLog:
    """Read files and folders; the tokenizer is only loaded if there is text.

    `on_disk` is that of `load_workload`.

    Raises:
        LogError, ModelError, ValueError: as `read_logs`, `load_workload` and `load_tokenizer`.
    """
    from radixcache.logs import read_logs
    from radixcache.logs.folders import expand_folders
    from radixcache.workload.load import load_workload

    used: str | None = None

    def make_encoder() -> Encoder:
        nonlocal used
        from radixcache.models.tokenizing import load_tokenizer
        from radixcache.prompts.encode import PromptEncoder

        used = tokenizer
        return PromptEncoder(load_tokenizer(tokenizer, notify=notify), tokenizer, media=True)

    def show(done: int) -> None:
        if not done % 64:
            progress.update("reading", done, reading.limit)

    show(0)
    files = expand_folders(logs)
    entries = read_logs(
        files,
        strict=reading.strict,
        on_bad_line=bad_lines,
        on_note=bad_lines.note,
        limit=reading.limit,
        trace_block=trace_block,
        rules=reading.rules(),
        must_find=True,
    )
    workload = load_workload(
        entries,
        make_encoder,
        namespace_by=namespace_by,
        answers=answers,
        on_disk=on_disk,
        strict=reading.strict,
        on_bad_line=bad_lines,
        on_progress=show,
    )
    progress.update("reading", len(workload.calls), len(workload.calls))
    bad_lines.print_rest()
    return LoadedLog(workload, tuple(files), used, bad_lines.count)
