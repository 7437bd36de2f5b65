"""What a sequence does in one step."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from radixcache.engine.request import Sequence


class ChunkKind(Enum):
    """What the tokens of a chunk are.

    PREFILL: of the prompt, or of a preempted sequence that is resumed; the last chunk of them samples.
    DECODE: the token that was sampled last.
    VERIFY: the token that was sampled last and drafted ones after it, each of which stays if it is sampled.
    """

    PREFILL = auto()
    DECODE = auto()
    VERIFY = auto()


class Chunk(NamedTuple):
    """Part of a sequence to compute in one step: `length` tokens from position `start`."""

    sequence: Sequence
    start: int
    length: int
    kind: ChunkKind

    @property
    def stop(self) -> int:
        """Position after the last token."""
        return self.start + self.length

    @property
    def drafted(self) -> int:
        """How many of the last tokens are drafted."""
        return self.length - 1 if self.kind is ChunkKind.VERIFY else 0

    @property
    def completes(self) -> bool:
        """After this chunk everything known of the sequence is computed: sample."""
        lease = self.sequence.lease
        return lease is not None and self.stop == lease.num_tokens
