"""What a cache sees of a log: the requests in order, and what one unit of a prompt stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Call", "Workload", "default_block_size"]

_TEXT_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the cache sees it.

    Attributes:
        namespace: the cache namespace it runs in.
        units: the prompt, packed int32 (see `radixcache.tokens`). A unit is one token of a log of text or
            token ids, and one block of a hash trace, numbered densely by first appearance.
        prompt_tokens: tokens of the prompt; in a trace the last unit may stand for fewer than the others.
        output: the answer, packed like `units`; empty if it is unknown.
        output_tokens: tokens of the answer, 0 if unknown.
        session: the conversation it belongs to.
        timestamp: seconds; only differences between calls mean anything.
        source, line: where it stands in the log.
    """

    namespace: str
    units: bytes
    prompt_tokens: int
    output: bytes
    output_tokens: int
    session: str | None
    timestamp: float | None
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A log as the cache sees it.

    Attributes:
        unit_tokens: tokens that a unit stands for: 1 for text and token ids.
        calls: the requests in order of arrival.
    """

    unit_tokens: int
    calls: Sequence[Call]


def default_block_size(workload: Workload) -> int:
    """Blocks of 16 tokens for text and token ids, and the trace's own for hashes."""
    return _TEXT_BLOCK if workload.unit_tokens == 1 else workload.unit_tokens
