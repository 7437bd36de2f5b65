"""`radixcache convert`: a log in another form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radixcache.cli.logs import (
    BadLines,
    LimitOption,
    LogsArgument,
    MaxLineOption,
    PromptFieldOption,
    Reading,
    SessionFieldOption,
    StrictOption,
    TimeFieldOption,
    TimeUnitOption,
    TokenizerOption,
    TraceBlockOption,
    check_logs,
)
from radixcache.cli.options import NamespaceByOption, count
from radixcache.cli.outputs import check_outputs
from radixcache.models import EMBEDDED_MODEL

if TYPE_CHECKING:
    from radixcache.logs import LogRequest

__all__ = ["convert_command"]


class Form(StrEnum):
    """Forms that a log can be written in."""

    RADIXCACHE = "radixcache"
    OPENAI = "openai"
    MOONCAKE = "mooncake"


def convert_command(
    logs: LogsArgument,
    to: Annotated[
        Form,
        typer.Option(
            help="radixcache: all that was read; openai: a batch's input; mooncake: block hashes, no text."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; - for standard output.")
    ] = Path("-"),
    tokenizer: TokenizerOption = EMBEDDED_MODEL,
    block_size: Annotated[
        int,
        typer.Option(metavar="N", parser=count("--block-size"), help="Tokens a hash stands for."),
    ] = 512,
    trace_block: TraceBlockOption = 512,
    namespace_by: NamespaceByOption = None,
    limit: LimitOption = None,
    strict: StrictOption = False,
    session_field: SessionFieldOption = None,
    time_field: TimeFieldOption = None,
    prompt_field: PromptFieldOption = None,
    time_unit: TimeUnitOption = None,
    max_line: MaxLineOption = None,
) -> None:
    """Write a log in another form.

    A mooncake trace has no text in it, only lengths, times and which blocks are the same: it can be given
    away.

    Examples:

      radixcache convert requests.jsonl --to mooncake -o trace.jsonl

      radixcache convert langfuse.jsonl --to openai
    """
    reading = Reading(strict, limit, session_field, time_field, prompt_field, time_unit, max_line)
    check_logs(logs, folders=True)
    check_outputs(output, inputs=logs)

    from radixcache.files import writing
    from radixcache.logs import read_logs
    from radixcache.logs.folders import expand_folders
    from radixcache.report.terminal.console import error_console

    errors = error_console()
    bad_lines = BadLines(errors)
    entries = read_logs(
        expand_folders(logs),
        strict=strict,
        on_bad_line=bad_lines,
        on_note=bad_lines.note,
        limit=limit,
        trace_block=trace_block,
        rules=reading.rules(),
        must_find=True,
    )
    lines = _lines(entries, to, tokenizer, block_size, namespace_by, strict, bad_lines, errors.notify)
    with writing(output) as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    bad_lines.print_rest()


def _lines(
    entries: Iterator[LogRequest],
    to: Form,
    tokenizer: str,
    block_size: int,
    namespace_by: str | None,
    strict: bool,
    bad_lines: BadLines,
    notify: Any,
) -> Iterator[dict[str, Any]]:
    from radixcache.errors import LogError
    from radixcache.logs import BadLine
    from radixcache.logs.canonical import as_record
    from radixcache.logs.convert import TraceWriter, as_openai
    from radixcache.logs.namespace import sharing_namespace
    from radixcache.prompts.encode import EncodeError, PromptEncoder

    encoder: PromptEncoder | None = None

    def encode(entry: LogRequest) -> Any:
        nonlocal encoder
        if entry.prompt_token_ids is not None:
            return entry.prompt_token_ids
        if encoder is None:
            from radixcache.models.tokenizing import load_tokenizer

            encoder = PromptEncoder(load_tokenizer(tokenizer, notify=notify), tokenizer, media=True)
        return encoder.encode(entry)

    trace = TraceWriter(block_size, encode)
    for number, entry in enumerate(entries, 1):
        try:
            if to is Form.MOONCAKE:
                yield trace.line(entry, sharing_namespace(entry, namespace_by)[0])
            else:
                yield as_record(entry) if to is Form.RADIXCACHE else as_openai(entry, number)
        except (EncodeError, ValueError) as error:
            bad = BadLine(entry.source, entry.line, str(error))
            if strict:
                raise LogError(str(bad)) from None
            bad_lines(bad)
