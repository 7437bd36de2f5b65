"""Decode steps, recorded by size and replayed.

At small batches launching a model's hundreds of kernels takes longer than running them. A step in
which every sequence has one new token always does the same, but for the contents of its inputs, so
it is recorded once for each size and replayed, as CUDA graphs are used elsewhere (vLLM, SGLang).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from radixcache.engine.backends import Backend
from radixcache.engine.cuda.buffers import StaticBuffers
from radixcache.engine.cuda.recorder import Recorder
from radixcache.engine.step import SequenceRows, StepBatch

_SMALL = (1, 2, 4, 8, 16)
_STEP = 8
# Tables are as wide as the longest sequence needs, in few sizes: kernels launch for all of the room.
_FIRST_WIDTH_TOKENS = 1024
_WIDTH_FACTOR = 4


class _Recorded(NamedTuple):
    buffers: StaticBuffers
    replay: Callable[[], None]


class StepGraphs:
    """Recordings of decode steps by number of sequences and width of block tables; made when first needed.

    If a model cannot be recorded (its forward pass waits for the device), that is warned of once and every
    step runs eagerly.
    """

    def __init__(
        self, compute: Callable[[StepBatch], Tensor], backend: Backend, recorder: Recorder, max_lines: int
    ) -> None:
        """Record `compute`: the logits `[lines, vocabulary]` of a step that the backend has begun."""
        self._compute = compute
        self._backend = backend
        self._recorder: Recorder | None = recorder
        self._sizes = sizes_up_to(max_lines)
        self._recorded: dict[tuple[int, int], _Recorded] = {}
        self._logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self._recorded)

    def forward(self, sequences: Sequence[SequenceRows]) -> Tensor | None:
        """Logits `[sequences, vocabulary]`, valid until the next call; None if the step fits no recording."""
        if self._recorder is None or len(sequences) > self._sizes[-1]:
            return None
        if any(len(item.tokens) != 1 or item.keep != 1 for item in sequences):
            return None
        pool = self._backend.pool
        lines = next(size for size in self._sizes if size >= len(sequences))
        width = width_for(
            max(len(item.block_table) for item in sequences), pool.layout.block_size, pool.num_blocks
        )
        known = self._recorded.get((lines, width))
        buffers = StaticBuffers(lines, width, pool.device) if known is None else known.buffers
        batch = StepBatch(sequences, pool.layout.block_size, device=pool.device, buffers=buffers)
        self._backend.begin(batch)
        if known is None:
            known = self._record(batch, buffers)
            if known is None:
                return None
            self._recorded[lines, width] = known
        known.replay()
        assert self._logits is not None
        return self._logits[: len(sequences)]

    def _record(self, batch: StepBatch, buffers: StaticBuffers) -> _Recorded | None:
        """Record the step. What it runs before the first replay stores the same KV that the replay will."""
        assert self._recorder is not None

        def compute() -> None:
            logits = self._compute(batch)
            if self._logits is None:
                # One for all sizes: what a recording allocates itself is shared with the others.
                self._logits = torch.empty(
                    (self._sizes[-1], logits.shape[1]), dtype=logits.dtype, device=logits.device
                )
            self._logits[: batch.num_lines].copy_(logits)

        try:
            return _Recorded(buffers, self._recorder.record(compute))
        except RuntimeError as error:
            self._recorder = None
            warnings.warn(f"decode steps are not recorded, and so slower: {error}", stacklevel=2)
            return None


def sizes_up_to(most: int) -> tuple[int, ...]:
    """Numbers of sequences to record steps for: 1, 2, 4, 8, 16, 24, 32, ... and `most` itself."""
    sizes = (*_SMALL, *range(_SMALL[-1] + _STEP, most, _STEP))
    return (*(size for size in sizes if size < most), most)


def width_for(blocks: int, block_size: int, num_blocks: int) -> int:
    """Width of the block tables of a recorded step whose longest sequence has `blocks` blocks."""
    width = max(_FIRST_WIDTH_TOKENS // block_size, 1)
    while width < blocks:
        width *= _WIDTH_FACTOR
    return min(width, num_blocks)
