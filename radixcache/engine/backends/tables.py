"""The block tables of a step as arrays, as plans of attention read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radixcache.engine.step import StepBatch


class StepTables(NamedTuple):
    """A step's sequences, padding of recorded steps included; all int32.

    Attributes:
        tables: `[S, width]`, block ids, filled up with the pool's null block.
        lengths: `[S]` tokens, the new ones included; 0 for padding.
        starts: `[S + 1]`, first row of each sequence.
    """

    tables: NDArray[np.int32]
    lengths: NDArray[np.int32]
    starts: NDArray[np.int32]


def step_tables(batch: StepBatch, null_block: int, width: int) -> StepTables:
    """The tables of a step's sequences, `width` blocks wide (at least as wide as the longest)."""
    tables = np.full((batch.num_lines, width), null_block, dtype=np.int32)
    lengths = np.zeros(batch.num_lines, dtype=np.int32)
    starts = np.arange(batch.num_lines + 1, dtype=np.int32)
    counts = []
    for number, item in enumerate(batch.sequences):
        tables[number, : len(item.block_table)] = item.block_table
        counts.append(len(item.tokens))
        lengths[number] = item.start + len(item.tokens)
    if not batch.fixed:
        np.cumsum(counts, out=starts[1:])
    return StepTables(tables, lengths, starts)
