"""Blocks that lower tiers hold beyond what the pool does, and their way into a lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from radixcache.cache.digest import block_digests
from radixcache.cache.namespaces import Namespace
from radixcache.ranges import check_int
from radixcache.tokens import TOKEN_BYTES

_logger = logging.getLogger(__name__)


class TierRun(NamedTuple):
    """Consecutive whole blocks that one tier holds: its name, and their tokens."""

    tier: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class LowerQuery:
    """The whole blocks of a prompt that the pool does not hold.

    Attributes:
        namespace: the prompt's.
        tokens: the whole prompt, packed.
        start: tokens before the first of the blocks, a multiple of `block_size`.
        block_size: tokens a block.
        parent: digest of the block before the first one; the namespace's own digest at position 0.
        digests: one a block, 16 bytes each, in order.
    """

    namespace: Namespace
    tokens: bytes
    start: int
    block_size: int
    parent: bytes
    digests: list[bytes]


class LowerTiers(Protocol):
    """The index of what is kept outside the pool."""

    def match(self, query: LowerQuery) -> Iterable[TierRun]:
        """What is held of the query's blocks, from the first one on and without gaps.

        Asked in the middle of `acquire`, so it must be quick and must not call the cache.  What it raises is
        logged, and nothing is found.
        """


@dataclass(frozen=True, slots=True)
class LowerHit:
    """What lower tiers hold of a prompt, beside what the pool holds.

    Attributes:
        start: tokens before it: those of whole blocks that the pool holds.
        num_tokens: tokens that could be loaded.  Less than the runs have where the last token of the prompt
            is computed in any case, or reuse was limited.
        in_pool: how many of them would be copied from a block of the pool if none were loaded.
        runs: which tier holds how many of them, in order.
    """

    start: int
    num_tokens: int
    in_pool: int
    runs: tuple[TierRun, ...]

    @property
    def end(self) -> int:
        """Tokens of the prompt up to the last block that a tier holds."""
        return self.start + sum(run.num_tokens for run in self.runs)


LoadDecision = Callable[[LowerHit], int]


class BlockLoad(NamedTuple):
    """A block to be filled from a lower tier.

    Attributes:
        tier: the tier that holds it.
        digest: its digest, 16 bytes.
        target: the block of the pool to fill, whole.
        start: tokens of the sequence before it.
        num_tokens: how many of its tokens count as cached then; fewer than a block's in the last one only.
    """

    tier: str
    digest: bytes
    target: int
    start: int
    num_tokens: int


def find_lower(
    lower: LowerTiers,
    namespace: Namespace,
    packed: bytes,
    parent: bytes,
    start: int,
    in_pool: int,
    limit: int,
    size: int,
) -> tuple[LowerHit, list[bytes]] | None:
    """What lower tiers hold of a prompt, and the digests of its blocks; None if it is not more than the pool.

    Args:
        lower: the tiers.
        namespace: the prompt's.
        packed: the whole prompt.
        parent: digest of the last whole block that the pool holds.
        start: tokens up to its end.
        in_pool: tokens after these that could be copied from a block of the pool.
        limit: the prompt's tokens that may be reused.
        size: tokens a block.
    """
    end = len(packed) // TOKEN_BYTES // size * size
    if min(end, limit) <= start + in_pool:
        return None
    digests = block_digests(parent, packed[start * TOKEN_BYTES : end * TOKEN_BYTES], size * TOKEN_BYTES)
    query = LowerQuery(namespace, packed, start, size, parent, digests)
    try:
        runs = _whole_blocks(lower.match(query), size, end - start)
    except Exception:
        _logger.warning("lower tiers could not be asked", exc_info=True)
        return None
    found = min(sum(run.num_tokens for run in runs), limit - start)
    return (LowerHit(start, found, in_pool, runs), digests) if found > in_pool else None


def _whole_blocks(runs: Iterable[TierRun], size: int, most: int) -> tuple[TierRun, ...]:
    """The runs, ending with the first that is not whole blocks or goes beyond `most` tokens."""
    found = []
    for tier, num_tokens in runs:
        tokens = min(check_int("num_tokens of a tier", num_tokens, least=0), most)
        if tokens >= size:
            found.append(TierRun(tier, tokens // size * size))
        most -= tokens
        if tokens % size or not most:
            break
    return tuple(found)


def wanted_tokens(hit: LowerHit, load: LoadDecision | None, size: int) -> int:
    """How many tokens of a hit to load: all, or as the caller decides, in whole blocks unless it is all.

    Raises:
        ValueError: the decision is not an integer, or below 0.
    """
    if load is None:
        return hit.num_tokens
    wanted = check_int("tokens to load", load(hit), least=0)
    return hit.num_tokens if wanted >= hit.num_tokens else wanted // size * size


class LoadPlan(NamedTuple):
    """What lower tiers hold, how many tokens of it to load, and the digests of its blocks."""

    hit: LowerHit
    num_tokens: int
    digests: list[bytes]


def block_loads(plan: LoadPlan, targets: list[int], size: int) -> tuple[BlockLoad, ...]:
    """The loads of a plan into `targets`, the blocks from its start on."""
    hit, num_tokens, digests = plan
    tiers = (run.tier for run in hit.runs for _ in range(run.num_tokens // size))
    return tuple(
        BlockLoad(tier, digest, target, hit.start + at, min(size, num_tokens - at))
        for tier, digest, target, at in zip(tiers, digests, targets, range(0, num_tokens, size), strict=False)
    )
