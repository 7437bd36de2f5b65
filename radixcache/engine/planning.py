"""Scheduled chunks as the input of a step."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from radixcache.cache.lease import BlockCopy
from radixcache.engine.chunk import Chunk, ChunkKind
from radixcache.engine.executor import Draw, PromptScore, SamplerState, StepInput
from radixcache.engine.staging import IntArray
from radixcache.engine.step import SequenceRows
from radixcache.tokens import TOKEN_BYTES, PackedTokens


class PlannedChunk(NamedTuple):
    """A chunk and what comes of it.

    Attributes:
        chunk: as scheduled.
        first_draw: index of its first draw.
        num_draws: 0, 1, or more where completions of the request start from its last row.
        score: index of its score, None without one.
    """

    chunk: Chunk
    first_draw: int
    num_draws: int
    score: int | None


@dataclass(slots=True)
class StepPlan:
    """The chunks of a step and its input, filled by `add`.

    Attributes:
        places: completions that may still start in this step.
        asynchronous: the step may still be computed while the next ones are prepared.
        eos_token_ids: the model's own end tokens.
    """

    places: int
    asynchronous: bool
    eos_token_ids: Collection[int]
    chunks: list[PlannedChunk] = field(default_factory=list)
    _parts: list[SequenceRows] = field(default_factory=list)
    _new_blocks: list[int] = field(default_factory=list)
    _copies: list[BlockCopy] = field(default_factory=list)
    _draws: list[Draw] = field(default_factory=list)
    _scores: list[PromptScore] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Compute a chunk of a sequence that holds a lease, and sample if it completes the sequence."""
        sequence = chunk.sequence
        lease = sequence.lease
        assert lease is not None
        part, first_draw = len(self._parts), len(self._draws)
        score: int | None = None
        tokens: SequenceOf[int] | IntArray
        if chunk.kind is ChunkKind.DECODE:
            keep = num_draws = 1
            tokens = (sequence.output_ids[-1],)
            self._draws.append(Draw(sequence.key, part, len(sequence.output_ids)))
        else:
            request = sequence.request
            # The slice is a copy: the lease's own buffer grows while the step is on its way, and a bytearray
            # cannot grow while an array looks at it.
            packed = lease.buffer[chunk.start * TOKEN_BYTES : chunk.stop * TOKEN_BYTES]
            tokens = np.frombuffer(packed, np.int32)
            keep = num_draws = 0
            if chunk.completes:
                keep = 1 + chunk.drafted
                num_draws = self._draw(chunk, part)
            if request.params.prompt_logprobs is not None and request.wants_prompt_logprobs:
                keep = chunk.length
                score = self._add_score(chunk, part)
        table = sequence.table() if self.asynchronous else lease.block_table
        self._parts.append(SequenceRows(tokens, chunk.start, table, keep))
        # Said again if the step is repeated: until they are committed nothing else is in these blocks.
        self._new_blocks += lease.fresh_blocks
        if lease.copies:
            self._copies += lease.copies
        self.chunks.append(PlannedChunk(chunk, first_draw, num_draws, score))

    def step(self) -> StepInput:
        """What the executor is to do."""
        return StepInput(self._parts, self._new_blocks, self._copies, self._draws, self._scores)

    def _draw(self, chunk: Chunk, part: int) -> int:
        """Sample for a sequence, and where the prompt ends for as many completions as may start; how many."""
        sequence, request = chunk.sequence, chunk.sequence.request
        position, index = len(sequence.output_ids), sequence.index
        if position:
            self._draws.append(Draw(sequence.key, part, position, chunk.drafted))
            return 1
        siblings = 0
        if len(request.sequences) == index + 1:
            siblings = max(0, min(request.params.n - len(request.sequences), self.places))
            self.places -= siblings
        state = SamplerState(request.params, request.prompt, frozenset(self.eos_token_ids))
        for number in range(index, index + siblings + 1):
            self._draws.append(Draw((request.number, number), part, 0, 0, state))
        return siblings + 1

    def _add_score(self, chunk: Chunk, part: int) -> int:
        """Ask for the logprobs of the prompt that are missing and follow a token of this chunk."""
        request = chunk.sequence.request
        top = request.params.prompt_logprobs
        assert top is not None
        known = max(chunk.start, len(request.prompt_logprobs or ()) - 1)  # the first row that is wanted
        following = request.prompt[(known + 1) * TOKEN_BYTES : (chunk.stop + 1) * TOKEN_BYTES]
        self._scores.append(PromptScore(part, known - chunk.start, PackedTokens(following), top))
        return len(self._scores) - 1
