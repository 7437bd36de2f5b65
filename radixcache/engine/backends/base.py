"""What a backend does for a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from radixcache.cache.lease import BlockCopy
from radixcache.engine.staging import to_device
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool


class LayerOptions(NamedTuple):
    """How a layer attends, as the model passes it.

    Attributes:
        scale: factor on the scores.
        window: a row at position p sees positions (p - window, p]; None sees all.
        soft_cap: scores become cap x tanh(score / cap).
        sinks: `[heads]`, a logit a head that joins the softmax's denominator alone.
    """

    scale: float
    window: int | None = None
    soft_cap: float | None = None
    sinks: Tensor | None = None


class Backend(ABC):
    """Copies blocks, writes KV and attends over block tables, for one pool.

    A backend may keep what it has read of blocks from step to step. It is told by `renewed` when blocks get
    new contents: `clear` and `copy` call it; code that writes into the pool itself must.

    Attributes:
        pool: the one it serves.
        invariant: attend so that a row's bits depend on that row alone; set before the first step.
        has_row_rules: it can, on a CPU.
    """

    has_row_rules = False

    def __init__(self, pool: PagedPool) -> None:
        self.pool = pool
        self.invariant = True

    def renewed(self, blocks: Iterable[int]) -> None:  # noqa: B027 - by default nothing is kept
        """These blocks have new contents in some layer: nothing read from them before is used again.

        For every change other than a step's own `write`: clearing, copies, blocks that are loaded from
        another tier or written by somebody else. Call it after the change is made (or queued, on a GPU) and
        before the next step begins.
        """

    def clear(self, blocks: Sequence[int]) -> None:
        """Zero newly allocated blocks."""
        self.pool.clear(to_device(np.asarray(blocks, dtype=np.int64), self.pool.device))
        self.renewed(blocks)

    def close(self) -> None:  # noqa: B027 - by default nothing is kept
        """Drop what is kept between steps; no step comes after it."""

    @abstractmethod
    def copy(self, copies: Sequence[BlockCopy]) -> None:
        """Copy the first `num_tokens` tokens of each source block to its target, in every layer.

        The targets are `renewed`. No block may be both a source and a target; the cache sees to that.
        """

    @abstractmethod
    def begin(self, batch: StepBatch) -> None:
        """Prepare what every layer of the step shares."""

    @abstractmethod
    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store the step's new keys and values, both `[rows, kv_heads, head_dim]`, real rows only.

        In a quantised pool they are quantised; attention reads them as stored, those of this step too.
        """

    @abstractmethod
    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        """Attention of the step's rows over everything before and including them.

        Args:
            layer: index of the layer, whose keys and values are in the pool already.
            query: `[rows, heads, head_dim]`, real rows only.
            options: scale, window, soft-cap and sinks of this layer.

        Returns:
            `[rows, heads, head_dim]` in the query's dtype.
        """
