"""A scheduled chunk as the rows of a step."""

from __future__ import annotations

import numpy as np

from radixcache.engine.scheduler import Chunk
from radixcache.engine.step import SequenceRows


def rows_of(chunk: Chunk, asynchronous: bool) -> SequenceRows:
    """The tokens of a chunk, where they go, and how many of them need logits.

    Args:
        chunk: of a sequence that holds a lease.
        asynchronous: the step may still be on its way while the next ones are prepared.
    """
    sequence, lease = chunk.sequence, chunk.sequence.lease
    assert lease is not None
    prompt = sequence.request.prompt
    stop = chunk.stop
    if chunk.start >= len(prompt):
        tokens: tuple[int, ...] = tuple(sequence.output_ids[chunk.start - len(prompt) : stop - len(prompt)])
    else:
        tokens = (*prompt[chunk.start : stop], *sequence.output_ids[: max(0, stop - len(prompt))])
    keep = 1 if chunk.completes else 0
    if sequence.request.wants_prompt_logprobs:
        keep = chunk.length
    if asynchronous:
        # A copy: the lease's own row of ids grows while the step is on its way.
        return SequenceRows(tokens, chunk.start, np.frombuffer(bytes(lease.packed_table), np.int32), keep)
    return SequenceRows(tokens, chunk.start, lease.block_table, keep)
