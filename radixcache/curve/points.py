"""Which of a curve's capacities are worth showing: an even selection, round ones, and its knee."""

from __future__ import annotations

import math
from collections.abc import Iterable

from radixcache.curve.curve import Curve

__all__ = ["knee_of", "round_capacities", "thinned_capacities"]

_PER_DECADE = 24
_LARGEST_STEP = 0.005
_LEADING_DIGITS = (1, 2, 5)
_LOW = 0.02
_LEAST = 5


def thinned_capacities(curve: Curve, wanted: Iterable[int] = ()) -> list[int]:
    """Capacities in blocks from which the whole curve can be drawn, rising, each of them exact.

    24 a decade at equal ratios up to the saturation, the saturation itself, those in `wanted`, and between
    any two of them as many more as it takes for the hit rate to rise by at most 0.005 from one to the next
    (where a single block brings more than that, the two capacities beside each other).
    """
    last = max(1, curve.saturation)
    steps = math.ceil(math.log10(last) * _PER_DECADE)
    chosen = {round(10 ** (step / _PER_DECADE)) for step in range(steps)}
    chosen = {capacity for capacity in chosen if capacity < last} | {last} | set(wanted)
    rates = {capacity: curve.hit_rate(capacity) for capacity in chosen}
    gaps = list(zip(sorted(rates)[:-1], sorted(rates)[1:], strict=True))
    while gaps:
        low, high = gaps.pop()
        if high - low > 1 and rates[high] - rates[low] > _LARGEST_STEP:
            middle = (low + high) // 2
            rates[middle] = curve.hit_rate(middle)
            gaps += [(low, middle), (middle, high)]
    return sorted(rates)


def round_capacities(curve: Curve, most: int = 9) -> list[int]:
    """A limited number of capacities 1, 2, 5, 10, 20, ... in blocks, rising, and the saturation after them.

    They begin where the curve has reached a fiftieth of its height, or a little below the saturation if it
    rises only there, or as high as their number demands.
    """
    last = curve.saturation
    if not last:
        return []
    below = [
        digit * 10**power
        for power in range(len(str(last)))
        for digit in _LEADING_DIGITS
        if digit * 10**power < last
    ]
    floor = _LOW * curve.hit_rate(last)
    flat = sum(curve.hit_rate(capacity) < floor for capacity in below)
    return [*below[min(flat, max(0, len(below) - _LEAST)) :][-most:], last]


def knee_of(curve: Curve) -> int | None:
    """The capacity in blocks after which more room brings clearly less, or None if there is no such place.

    The rule of Kneedle (Satopaa et al. 2011) on a logarithmic axis: the point that lies farthest above the
    straight line from a cache of one block to the saturation, both axes scaled to 0 to 1. It is looked for
    among the capacities of `thinned_capacities`.
    """
    last = curve.saturation
    bottom, top = curve.hit_rate(min(1, last)), curve.hit_rate(last)
    if last < 3 or top <= bottom:
        return None

    def above(capacity: int) -> float:
        height = (curve.hit_rate(capacity) - bottom) / (top - bottom)
        return height - math.log(capacity) / math.log(last)

    best = max((c for c in thinned_capacities(curve) if 1 < c < last), key=above, default=last)
    return best if best < last and above(best) > 0 else None
