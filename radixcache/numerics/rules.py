"""How many rows an operation is called with, so that a row's bits depend on that row alone.

BLAS libraries round a row of a product differently at different numbers of rows: they choose another kernel
for few rows, for a remainder, or for a large product. Which numbers agree with each other depends on the
library, the CPU and the shape, so they are found by trying, bit for bit (`find_rule`), and an operation is
called with those alone, extra rows being padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Rows of a step for which a rule's cost is weighed: decoding alone, a few at once, many, a prefill chunk.
_TYPICAL_ROWS = (1, 8, 64, 512)
# Reading the operand that all rows share costs about as much as so many rows: the price of one more call.
_CALL_IN_ROWS = 64
_STEPS = (1, 2, 4, 8, 16, 32, 64)
_FEWEST_TO_GENERALISE = 64

Call = Callable[[int, int], Sequence[Tensor]]


class RowRule(NamedTuple):
    """Numbers of rows at which an operation gives a row the same bits, wherever among whatever rows it is.

    Attributes:
        step: every multiple of it up to `sizes[-1]` is such a number; 0 if only the `sizes` are.
        sizes: numbers that were tried, ascending.
    """

    step: int
    sizes: tuple[int, ...]

    @property
    def most(self) -> int:
        """The largest number of rows in one call."""
        return self.sizes[-1]

    @property
    def least(self) -> int:
        """The smallest number of rows in one call."""
        return self.step or self.sizes[0]

    def fits(self, rows: int) -> bool:
        """Whether one call with exactly so many rows will do."""
        return rows <= self.sizes[-1] and (rows % self.step == 0 if self.step else rows in self.sizes)

    def pieces(self, rows: int) -> list[int]:
        """Rows of the calls that together take `rows` rows, the last of them padded if need be."""
        pieces: list[int] = []
        while rows > 0:
            pieces.append(self._piece(rows))
            rows -= pieces[-1]
        return pieces

    def _piece(self, rows: int) -> int:
        if rows >= self.most:
            return self.most
        if self.step:
            return -(-rows // self.step) * self.step
        below = [size for size in self.sizes if size <= rows]
        above = next(size for size in self.sizes if size >= rows)
        return above if not below or above < below[-1] + _CALL_IN_ROWS else below[-1]

    def cost(self) -> float:
        """What a step's products take in company of few and of many rows, relative to other rules."""
        return math.prod(
            sum(_CALL_IN_ROWS + piece for piece in self.pieces(rows)) / rows for rows in _TYPICAL_ROWS
        )


def find_rule(call: Call, counts: Sequence[int], compared: int) -> RowRule | None:
    """The cheapest rule by which `call` gives a row the same bits always.

    Args:
        call: `call(first, count)` computes rows first to first + count of the same `max(counts)` rows and
            returns tensors of `count` rows.
        counts: numbers of rows to try, ascending.
        compared: rows to compare at each number; at more, the rest is there for company.

    Returns:
        The rule, or None if not even a fixed number of rows gives a row the same bits at every place.
    """
    found: dict[int, list[Tensor]] = {}
    for count in counts:
        outputs = _outputs(call, count, compared)
        if outputs is not None:
            found[count] = outputs
    classes: list[list[int]] = []
    for count, outputs in found.items():
        for members in classes:
            if _equal(found[members[0]], outputs):
                members.append(count)
                break
        else:
            classes.append([count])
    rules = [rule for members in classes for rule in _rules(members, counts)]
    return min(rules, key=RowRule.cost, default=None)  # the first of equals: any multiple before sizes alone


def _outputs(call: Call, count: int, compared: int) -> list[Tensor] | None:
    """Outputs for the first rows, computed `count` at a time; None if a row's place among them matters."""
    wanted = max(compared // count, 1) * count
    parts = [call(first, count) for first in range(0, wanted, count)]
    outputs = [torch.cat(tensors)[:compared] for tensors in zip(*parts, strict=True)]
    # One place further, and half way on, so that a pattern of any period shows.
    for shift in {1, count // 2 + 1} if count <= compared // 2 else {1}:
        moved = call(shift, count)
        for again, output in zip(moved, outputs, strict=True):
            common = min(count, len(output) - shift)
            if count > 1 and not torch.equal(again[:common], output[shift : shift + common]):
                return None
    return outputs


def _equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(torch.equal(a[: len(b)], b[: len(a)]) for a, b in zip(some, others, strict=True))


def _rules(members: Sequence[int], counts: Sequence[int]) -> list[RowRule]:
    """What may be concluded from `members` of `counts` agreeing: those alone, or multiples of something."""
    kept = set(members)
    rules: list[RowRule] = []
    for step in _STEPS:
        multiples = [count for count in counts if count % step == 0]
        # Beyond the first multiple that is not a member, nothing is taken for granted.
        upto = next((at for at, count in enumerate(multiples) if count not in kept), len(multiples))
        if upto > 1 and multiples[upto - 1] >= _FEWEST_TO_GENERALISE:
            rules.append(RowRule(step, tuple(multiples[:upto])))
    return [*rules, RowRule(0, tuple(sorted(kept)))]
