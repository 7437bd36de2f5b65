"""A log into spools: token ids for the cache, records for what people read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from radixcache.doctor.log.priced import PricedEncoder
from radixcache.doctor.settings import MODEL_FIELDS, NAMESPACE_SEPARATOR, DoctorSettings
from radixcache.logs.record import BadLine, LogRequest
from radixcache.prompts.pieces import PieceEncoder
from radixcache.workload.load import Encoder, stream_calls
from radixcache.workload.spool import RecordSpool, TokenSpool

__all__ = ["read_spools", "retokenise"]


def read_spools(
    log: Iterable[LogRequest],
    make_encoder: Callable[[], PieceEncoder],
    settings: DoctorSettings,
    *,
    priced: bool = False,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[RecordSpool, TokenSpool]:
    """Read a log once, in bounded memory.

    Args:
        priced: find out what prices need, too: where messages end, and how long answers are of which there
            is only the text. Those are counted, not kept.
        log, make_encoder, strict, on_bad_line, on_progress: as in `stream_calls`, as are the errors.
        settings: how the log is simulated.
    """
    records = RecordSpool()
    pricing = PricedEncoder(make_encoder) if priced else None
    made = make_encoder if pricing is None else lambda: pricing
    tokens = _tokens(log, made, settings, records, strict, on_bad_line, on_progress, pricing)
    return records, tokens


def retokenise(
    log: Iterable[LogRequest],
    encoder: Encoder,
    settings: DoctorSettings,
    on_progress: Callable[[int], None] = lambda _: None,
) -> TokenSpool:
    """The calls of a rewritten log; a request that cannot be tokenised any more is an error."""
    return _tokens(log, lambda: encoder, settings, None, True, lambda _: None, on_progress)


def _tokens(
    log: Iterable[LogRequest],
    make_encoder: Callable[[], Encoder],
    settings: DoctorSettings,
    records: RecordSpool | None,
    strict: bool,
    on_bad_line: Callable[[BadLine], None],
    on_progress: Callable[[int], None],
    pricing: PricedEncoder | None = None,
) -> TokenSpool:
    spool = TokenSpool()
    for entry, call in stream_calls(
        log,
        make_encoder,
        namespace_by=settings.namespace_by,
        answers=settings.outputs or settings.arrivals == "timestamps",
        strict=strict,
        on_bad_line=on_bad_line,
        on_progress=on_progress,
    ):
        if entry.blocks is not None:
            spool.unit_tokens = entry.blocks.block_tokens
        if records is not None:
            records.append(entry)
        of_model = settings.namespace_by in MODEL_FIELDS
        counted = None if pricing is None else pricing.answer_tokens(entry)
        if counted is not None:
            spool.counted_answers += 1
        spool.append(
            call if counted is None else replace(call, output_tokens=counted),
            _namespace(entry, "" if of_model else call.namespace),
            None if pricing is None else pricing.ends(entry),
        )
    return spool


def _namespace(entry: LogRequest, tenant: str) -> str:
    """The whole name of a namespace: model and adapter as far as they were logged, then the tenant."""
    body = entry.raw.get("body")
    records = [entry.raw, *([body] if isinstance(body, dict) else [])]
    values = [
        next((v for r in records if isinstance(v := r.get(field), str)), None) for field in MODEL_FIELDS
    ]
    if not any(values) and NAMESPACE_SEPARATOR not in tenant:
        return tenant
    return json.dumps(values) + NAMESPACE_SEPARATOR + tenant
