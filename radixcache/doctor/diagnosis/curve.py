"""The hit-rate curve beside a diagnosis: exact for most logs, sampled for very long ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from radixcache.curve.curve import Curve, exact_curve, sampled_curve
from radixcache.curve.points import knee_of, round_capacities, thinned_capacities
from radixcache.doctor.attribution import Progress
from radixcache.doctor.diagnosis.schema import CurveSketch
from radixcache.doctor.settings import DoctorSettings
from radixcache.simulate.clairvoyant import clairvoyant_hits
from radixcache.workload.references import References, reference_lists
from radixcache.workload.spool import IndexedCall, TokenSpool

__all__ = ["draw_curve"]

_EXACT = 8_000_000
_CLAIRVOYANT = 600_000  # references, over all capacities at which the bound is looked for
_MOST_POINTS = 400


def draw_curve(
    tokens: TokenSpool,
    order: Sequence[int],
    block_size: int,
    settings: DoctorSettings,
    on_progress: Progress = lambda *_: None,
) -> tuple[CurveSketch | None, Curve | None]:
    """LRU's curve by the rule of `radixcache curve`, and the bound above it where that is quickly found.

    None for a log whose prompts never share a whole block.
    """

    def calls() -> Iterator[IndexedCall]:
        return (tokens.call(index) for index in order)

    total = sum(units * tokens.unit_tokens // block_size for units in tokens.prompt_units)
    references: References | None = None
    on_progress("drawing the curve", 0, 1)
    if total <= _EXACT:
        curve, references = exact_curve(calls(), block_size, tokens.unit_tokens)
    else:
        curve = sampled_curve(calls(), block_size, tokens.unit_tokens, rate=_EXACT / total)
    on_progress("drawing the curve", 1, 1)
    if not curve.saturation:
        return None, None
    knee = knee_of(curve)
    wanted = {c for c in (knee, settings.capacity) if c is not None}
    best = {} if references is None else _clairvoyant(curve, references, total, sorted(wanted))
    points = [_point(curve, capacity, best) for capacity in thinned_capacities(curve, {*wanted, *best})]
    step = -(-len(points) // _MOST_POINTS)
    shown = [p for i, p in enumerate(points) if not i % step or p["capacity_blocks"] in wanted]
    sketch = CurveSketch(block_size, shown, None if knee is None else _point(curve, knee, best))
    return sketch, curve


def _clairvoyant(curve: Curve, references: References, total: int, wanted: Sequence[int]) -> dict[int, float]:
    most = _CLAIRVOYANT // max(1, total)
    capacities = [*wanted, *reversed(round_capacities(curve, 6))][: min(8, most)]
    if not capacities:
        return {}
    paths = reference_lists(references)
    tokens = max(1, curve.prompt_tokens)
    return {c: clairvoyant_hits(paths, c) * curve.block_size / tokens for c in capacities}


def _point(curve: Curve, capacity: int, best: dict[int, float]) -> dict[str, Any]:
    return {
        "capacity_blocks": capacity,
        "hit_rate": curve.hit_rate(capacity),
        "clairvoyant_hit_rate": best.get(capacity),
    }
