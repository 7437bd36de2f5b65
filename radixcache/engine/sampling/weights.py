"""Probabilities as whole numbers, whose sums are exact.

A weight is a token's probability as a share of the most likely one's, in units so small that the weights of
a whole vocabulary sum to less than 2**53. float64 then holds every partial sum exactly, so sums do not
depend on the order of additions, the device or the other rows of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 256
"""Weights summed at once."""


def unit(vocabulary: int) -> float:
    """The weight of the most likely token, a power of two: 2**35 at a vocabulary of 128 k."""
    return float(2 ** (52 - (vocabulary - 1).bit_length()))


def weights(logits: Tensor, highest: Tensor, temperature: Tensor | None = None) -> Tensor:
    """Weights [rows, vocab] (float32, whole numbers) of logits [rows, vocab] (float32).

    Args:
        highest: highest logit of each row [rows]; where it is not finite the weights mean nothing.
        temperature: divides each row's logits [rows] (float32); 1 if left out.
    """
    scaled = logits - highest[:, None]
    if temperature is not None:
        scaled /= temperature[:, None]
    return scaled.exp_().mul_(unit(logits.shape[-1])).round_()


class Cumulated:
    """Running sums of weights [rows, vocab], in two levels."""

    def __init__(self, values: Tensor) -> None:
        """Sums of `values`, whole numbers."""
        missing = -values.shape[-1] % CHUNK
        padded = torch.nn.functional.pad(values, (0, missing)) if missing else values
        self._last = values.shape[-1] - 1
        self._chunks = padded.view(len(values), -1, CHUNK)
        self._sums = self._chunks.sum(-1, dtype=torch.float64)
        self._ends = self._sums.cumsum(-1)

    @property
    def total(self) -> Tensor:
        """Sum of each row [rows] (float64)."""
        return self._ends[:, -1]

    def reach(self, target: Tensor) -> Tensor:
        """The first id of each row at which the running sum is at least `target` [rows]; int64 [rows].

        The target is above 0 and at most the total; for any other (NaN included) some id of the row.
        """
        chunk = (self._ends < target[:, None]).sum(-1, keepdim=True).clamp_(max=self._ends.shape[-1] - 1)
        before = self._ends.gather(-1, chunk) - self._sums.gather(-1, chunk)
        inside = self._chunks.gather(1, chunk[:, :, None].expand(-1, -1, CHUNK))[:, 0].double().cumsum(-1)
        inside += before
        place = (inside < target[:, None]).sum(-1)
        return (chunk[:, 0] * CHUNK + place).clamp_(max=self._last)


def draw(values: Tensor, numbers: Tensor) -> Tensor:
    """Token ids [rows] (int64) by random numbers [rows] (float64, in [0, 1)), in proportion to weights."""
    cumulated = Cumulated(values)
    total = cumulated.total
    # Any of the whole numbers from 1 to the total, so a zero-weight token is never drawn.
    return cumulated.reach(torch.minimum((numbers * total).floor() + 1, total))
