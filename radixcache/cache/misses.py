"""Why tokens of a prompt were not reused."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, Protocol

from radixcache.cache.history import Seen
from radixcache.tokens import TOKEN_BYTES, common_prefix


class MissReason(StrEnum):
    """The reasons; every token of a prompt that was not reused has exactly one."""

    NEVER_SEEN = "never_seen"  # new, and nothing else was seen in its place
    DIVERGED = "diverged"  # new, where an earlier prompt went on differently
    EVICTED = "evicted"  # was cached once
    PARTIAL_BLOCK = "partial_block"  # computed, in a block that could not be copied from
    OTHER_NAMESPACE = "other_namespace"  # seen, but in another namespace only
    NOT_YET_COMPUTED = "not_yet_computed"  # a running request has them, but not computed
    LAST_TOKEN = "last_token"  # a full hit recomputes its last token
    CACHE_OFF = "cache_off"  # the cache is disabled, or was not to be read
    LOAD_DECLINED = "load_declined"  # a lower tier has it, but the caller chose to compute
    LOAD_FAILED = "load_failed"  # was to be loaded from a lower tier, and could not be
    LOAD_LATE = "load_late"  # the same, but took too long, or longer than the request lived


class RunningSequence(Protocol):
    """A sequence that is being computed: packed tokens, how many there are, and how many are computed."""

    buffer: bytes | bytearray
    num_tokens: int
    num_computed_tokens: int


class Running(NamedTuple):
    """The live lease that a prompt follows furthest.

    Attributes:
        common: tokens in common.
        computed: tokens of the lease that are computed.
        continues: whether the lease goes on after `common`, that is, differently.
    """

    common: int
    computed: int
    continues: bool


class Explanation(NamedTuple):
    """Tokens missed by reason, and the token index at which the prompt left all that was seen."""

    misses: dict[str, int]
    diverged_at: int | None


def furthest_running(leases: Iterable[RunningSequence], packed: bytes, known: int) -> Running | None:
    """The live lease that a prompt follows furthest, if further than `known` tokens."""
    best = None
    prefix = packed[: (known + 1) * TOKEN_BYTES]
    for lease in leases:
        tokens = lease.buffer
        if tokens.startswith(prefix):
            common = common_prefix(packed, tokens)
            running = Running(common, lease.num_computed_tokens, lease.num_tokens > common)
            if best is None or running > best:
                best = running
    return best


def explain(
    prompt_tokens: int,
    cached: int,
    declined: int,
    given_up: int,
    resident_continues: bool,
    seen: Seen,
    running: Running | None,
) -> Explanation:
    """Attribute the tokens `cached` to `prompt_tokens` of a prompt that was not a full hit.

    Args:
        prompt_tokens: tokens of the prompt.
        cached: tokens reused.
        declined: tokens after those that could have been loaded from a lower tier.
        given_up: tokens after those that were cached, but for lack of a block to copy to.
        resident_continues: whether something cached goes on after these.
        seen: what the history knows.
        running: the live lease that it follows beyond these, if any.
    """
    misses: dict[str, int] = {}
    at = cached

    def put(reason: MissReason, stop: int) -> None:
        nonlocal at
        if stop > at:
            misses[str(reason)] = misses.get(str(reason), 0) + stop - at
            at = stop

    put(MissReason.LOAD_DECLINED, cached + declined)
    put(MissReason.PARTIAL_BLOCK, at + given_up)
    known, continues = at, resident_continues
    if running is not None:
        put(MissReason.PARTIAL_BLOCK, min(running.computed, running.common))
        put(MissReason.NOT_YET_COMPUTED, running.common)
        known, continues = at, running.continues
    if seen.here > known:
        put(MissReason.EVICTED, seen.here)
        known, continues = at, seen.continues
    elif seen.here == known:
        continues = continues or seen.continues
    diverged = continues and known > 0 and known < prompt_tokens
    put(MissReason.OTHER_NAMESPACE, seen.elsewhere)
    put(MissReason.DIVERGED if diverged else MissReason.NEVER_SEEN, prompt_tokens)
    return Explanation(misses, known if diverged else None)
