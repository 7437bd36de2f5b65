"""Examines a log: reads it, drives it through the cache, compares texts, and tries out every remedy."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from radixcache.doctor.attribution import MOST_BLOCKS, Attribution, Progress, attribute, default_size
from radixcache.doctor.diagnosis.curve import draw_curve
from radixcache.doctor.diagnosis.schema import CAUSES, Diagnosis, TimelineBucket
from radixcache.doctor.diagnosis.table import RequestTable
from radixcache.doctor.diagnosis.tree import prune
from radixcache.doctor.edits.measure import Measured, Measurer
from radixcache.doctor.edits.what_if import WhatIf, parse_edits, rewritten
from radixcache.doctor.findings import gainful_edits, ranked, setting_findings, text_findings
from radixcache.doctor.log import LogSource, read_spools
from radixcache.doctor.settings import DoctorSettings
from radixcache.doctor.template.prove import with_proof
from radixcache.doctor.texts.sampling import Examined, examine_misses
from radixcache.doctor.wording import describe_edit
from radixcache.files import writing
from radixcache.version import __version__
from radixcache.workload.spool import TokenSpool

__all__ = ["Examination", "Fix", "examine"]

_BUCKETS = 200


class Fix(NamedTuple):
    """A rewritten log.

    Attributes:
        edits: what was done, each as `--what-if` takes it, with a description.
        requests: lines written.
        unmatched: which of the edits changed no request.
        after: what the cache reuses of it.
    """

    edits: list[tuple[str, str]]
    requests: int
    unmatched: list[str]
    after: Measured | None


@dataclass(frozen=True, slots=True)
class Examination:
    """The diagnosis, and the log to apply remedies to.

    Attributes:
        diagnosis: what was found.
        edits: what was asked for.
        measurer: tries out edits.
        now: what is reused of the log as it is.
    """

    diagnosis: Diagnosis
    edits: Sequence[WhatIf]
    measurer: Measurer
    now: Measured

    def write_fix(self, path: Path) -> Fix:
        """Write the log as it would be after the edits asked for, else after all those that gain something.

        Requests of block hashes cannot be rewritten and are left out.

        Raises:
            ValueError: the file cannot be written, or there is nothing to rewrite.
        """
        edits = [edit for edit in self.edits if edit.make is not None]
        if not self.edits:
            edits = parse_edits(gainful_edits(self.diagnosis.findings))
        after = self.measurer.measure(edits) if edits else self.now
        count = 0
        counts: Counter[str] = Counter()
        with writing(path) as file:
            for entry in rewritten(self.measurer.requests(), edits, DoctorSettings(), counts)[0]:
                file.write(json.dumps(entry.raw, ensure_ascii=False) + "\n")
                count += 1
            if not count:
                raise ValueError("a log of block hashes holds no text to rewrite")
        unmatched = [edit.text for edit in edits if not counts[edit.text]]
        return Fix([(edit.text, describe_edit(edit.text)) for edit in edits], count, unmatched, after)


def examine(
    source: LogSource,
    settings: DoctorSettings,
    edits: Sequence[WhatIf] = (),
    *,
    priced: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Examination:
    """Read a log and say why it missed.

    Args:
        source: the log and its tokenizer.
        settings: how it is simulated.
        edits: what-ifs, to be measured all together.
        priced: its spool is to say what prices need, as in `read_spools`.
        on_progress: told how far each phase is.

    Raises:
        LogError, ModelError, ValueError: as `read_logs`, `load_workload` and `load_tokenizer`.
    """

    def reading(done: int) -> None:
        if not done % 64:
            on_progress("reading", done, source.limit)

    records, tokens = read_spools(
        source.requests(),
        source.encoder,
        settings,
        priced=priced,
        strict=source.strict,
        on_bad_line=source.skip,
        on_progress=reading,
    )
    on_progress("reading", len(tokens), len(tokens))
    size = default_size(tokens, settings)
    found = attribute(tokens, settings, on_progress)
    now = Measured(sum(tokens.prompt_tokens), found.cached_tokens)
    measurer = Measurer(source, records, tokens, settings, on_progress)
    sketch, curve = draw_curve(tokens, found.order, size, settings, on_progress)
    reader = source.reader() if tokens.unit_tokens == 1 else None
    examined = Examined() if reader is None else examine_misses(records, tokens, found, reader, on_progress)

    def measure(texts: Sequence[str]) -> Measured | None:
        return measurer.measure(parse_edits(texts))

    findings = with_proof(text_findings(examined, measure, now), source.tokenizer_name, source.notify)
    findings += setting_findings(found, settings, size, curve, measure, now)
    diagnosis = Diagnosis(
        logs=source.files,
        requests=len(tokens),
        sessions=tokens.num_sessions,
        bad_lines=source.bad_lines,
        prompt_tokens=now.prompt_tokens,
        cached_tokens=now.cached_tokens,
        missed_tokens=found.missed,
        settings=_as_simulated(settings, found, source).to_json(source.tokenizer_name, size),
        findings=ranked(findings, settings.prefill_speed),
        timeline=_timeline(tokens, found),
        curve=sketch,
        tree=prune(
            found.lineage,
            (lambda _: "") if reader is None else reader.decode,
            tokens.unit_tokens,
            len(tokens),
        ),
        table=RequestTable(
            spool=tokens,
            order=found.order,
            cached=found.cached,
            causes=found.causes,
            tokens=found.tokens,
            partners=found.partners,
            cause_names=CAUSES,
            parts=examined.parts,
        ),
        what_if=_what_if(edits, measurer, now),
        versions={"python": platform.python_version(), "radixcache": __version__},
    )
    return Examination(diagnosis, edits, measurer, now)


def _as_simulated(settings: DoctorSettings, found: Attribution, source: LogSource) -> DoctorSettings:
    """The settings with the capacity that the log ran into, if it was to have none."""
    if settings.capacity is not None or not found.missed.get("evicted"):
        return settings
    source.notify(
        f"the log needs more than {MOST_BLOCKS:,} blocks, the limit without --capacity: evicted prefixes "
        "would have been reused from a larger cache"
    )
    return replace(settings, capacity=MOST_BLOCKS)


def _what_if(edits: Sequence[WhatIf], measurer: Measurer, now: Measured) -> dict[str, Any] | None:
    """The edits asked for, all together."""
    if not edits:
        return None
    counts: Counter[str] = Counter()
    after = measurer.measure(edits, counts)
    if after is None:
        raise ValueError(f"what-if {edits[0].text!r}: a log of block hashes holds no text to rewrite")
    return {
        "edits": [edit.text for edit in edits],
        "requests_changed": [None if edit.make is None else counts[edit.text] for edit in edits],
        "prompt_tokens": after.prompt_tokens,
        "cached_tokens": after.cached_tokens,
        "hit_rate": after.hit_rate,
        "gain_tokens": now.missed_tokens - after.missed_tokens,
    }


def _timeline(tokens: TokenSpool, found: Attribution) -> list[TimelineBucket]:
    count = len(found.order)
    width = max(1, -(-count // _BUCKETS))
    buckets = []
    for start in range(0, count, width):
        calls = found.order[start : start + width]
        buckets.append(
            TimelineBucket(
                request=start,
                timestamp=tokens.timestamp(calls[0]),
                prompt_tokens=sum(tokens.prompt_tokens[index] for index in calls),
                cached_tokens=sum(found.cached[index] for index in calls),
            )
        )
    return buckets
