"""Pins, priorities and times to live: soft, and applied around whatever policy is in use.

Order of leaving: what has expired, then low priorities (below 0), then the policy's order for
everything ordinary, and last high priorities and pins.  Nothing here makes a request fail: under
pressure the last ones go too.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from radixcache.cache.eviction.base import EvictionPolicy, is_candidate
from radixcache.ranges import check_int, is_number

if TYPE_CHECKING:
    from radixcache.cache.node import Node

PIN_PRIORITY = 1 << 30
_EXPIRED = -math.inf
_ORDINARY = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long to keep a range of tokens of a prompt.

    Attributes:
        start, end: the range in tokens, `end` None for the rest of the prompt; a block counts
            when any of its tokens is in the range.
        priority: below 0 leaves before ordinary blocks, above 0 after them, 0 is ordinary.
        ttl: seconds until it is expired and leaves first of all; None for never.
    """

    start: int = 0
    end: int | None = None
    priority: int = 0
    ttl: float | None = None

    def __post_init__(self) -> None:
        check_int("retention start", self.start)
        check_int("retention priority", self.priority, least=-PIN_PRIORITY, most=PIN_PRIORITY)
        if self.end is not None:
            check_int("retention end", self.end)
        if self.start < 0 or (self.end is not None and self.end < 0):
            raise ValueError(f"retention range [{self.start}, {self.end}) is negative")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"retention range [{self.start}, {self.end}) is empty")
        if self.ttl is not None and not (is_number(self.ttl) and self.ttl >= 0):
            raise ValueError(f"retention ttl must be at least 0 seconds, got {self.ttl!r}")


def check_ranges(ranges: Sequence[Retention]) -> None:
    """Refuse ranges of one prompt that overlap, or that are none, with ValueError."""
    if not isinstance(ranges, Sequence) or not all(isinstance(wanted, Retention) for wanted in ranges):
        raise ValueError(f"ranges must be a sequence of Retention, got {ranges!r}")
    ordered = sorted(ranges, key=lambda r: r.start)
    for before, after in itertools.pairwise(ordered):
        if before.end is None or before.end > after.start:
            raise ValueError(
                f"retention ranges [{before.start}, {before.end}) and [{after.start}, {after.end}) overlap"
            )


class Pin:
    """A handle on what was pinned or retained; `num_tokens` is how much of the prompt it covered at first.

    `due` is its place among the pins that wait for their time to run out, None for one that does not wait.
    """

    __slots__ = ("due", "expires", "nodes", "num_tokens", "priority")

    def __init__(self, priority: int, expires: float | None = None) -> None:
        self.priority = priority
        self.expires = expires
        self.due: tuple[float, int] | None = None
        self.nodes: set[Node] = set()
        self.num_tokens = 0


class EvictionQueue:
    """Candidates in order of leaving: retention first, the policy for all that has none.

    A pin is let go when its time has run out: what is left of it is a mark on each of its nodes.  So what is
    kept is bounded by the pins in force and the nodes of the tree.

    Raises:
        ValueError: another queue uses the policy object.
    """

    def __init__(self, policy: EvictionPolicy, clock: Callable[[], float]) -> None:
        if policy.taken:
            raise ValueError(f"policy must be used by one cache alone, got a {policy.name!r} that is in use")
        policy.taken = True
        self.policy = policy
        self._clock = clock
        self._pins: dict[Node, dict[Pin, None]] = {}
        self._ranks: dict[Node, dict[int, int]] = {}  # of each pinned node how many pins have a priority
        self._expired: set[Node] = set()  # covered once by a pin that has expired
        self._early: list[tuple[float, int, Node]] = []  # heaps of (rank, last use, node)
        self._late: list[tuple[float, int, Node]] = []
        # Sorted, not a heap: most pins lose their nodes long before their time, and must not wait for it.
        self._expiries: SortedDict[tuple[float, int], Pin] = SortedDict()
        self._serial = 0

    def push(self, node: Node) -> None:
        """`node` became a candidate, or still is one after losing some blocks."""
        if (self._pins or self._expired) and (rank := self._rank(node)) != _ORDINARY:
            self._push_ranked(node, rank)
        else:
            self.policy.push(node)

    def pop(self, *, spare_pinned: bool) -> Node | None:
        """Take out the next victim; None if there is none, or with `spare_pinned` only retained ones."""
        if not self._pins and not self._expired:
            return self.policy.pop()  # what still waits in the ranked heaps is retained no more
        if self._expiries:
            self._expire()
        if self._early and (node := self._pop_ranked(self._early)):
            return node
        while (node := self.policy.pop()) is not None:
            if (rank := self._rank(node)) <= _ORDINARY:
                return node
            self._push_ranked(node, rank)
        return None if spare_pinned or not self._late else self._pop_ranked(self._late)

    def pin(self, pin: Pin, nodes: Sequence[Node]) -> None:
        """Put `nodes` under a pin."""
        if self._expiries:
            self._expire()
        for node in nodes:
            self._cover(node, pin)
        if pin.expires is not None and pin.due is None and nodes:
            self._serial += 1
            pin.due = (pin.expires, self._serial)
            self._expiries[pin.due] = pin
        self._rerank(nodes)

    def unpin(self, pin: Pin) -> None:
        """Take a pin off whatever it still covers; one that is gone already is fine."""
        if not isinstance(pin, Pin):
            raise ValueError(f"pin must be what pin or retain returned, got {pin!r}")
        if any(node not in self._pins for node in pin.nodes):
            raise ValueError("pin belongs to another cache")
        self._rerank(self._let_go(pin))

    def split(self, upper: Node, lower: Node) -> None:
        """`upper` was cut off the head of `lower` and is retained like it."""
        self.policy.split(upper, lower)
        for pin in self._pins.get(lower, ()):
            self._cover(upper, pin)
        if lower in self._expired:
            self._expired.add(upper)

    def removed(self, node: Node) -> None:
        """`node` left the tree."""
        self._expired.discard(node)
        if self._pins:
            self._ranks.pop(node, None)
            for pin in self._pins.pop(node, ()):
                pin.nodes.discard(node)
                if not pin.nodes:
                    self._stop_waiting(pin)
        self.policy.removed(node)

    def clear(self) -> None:
        """The cache was reset: no node and no pin is left."""
        for pins in self._pins.values():
            for pin in pins:
                pin.nodes.clear()
                pin.due = None
        for entries in (self._pins, self._ranks, self._expired, self._early, self._late, self._expiries):
            entries.clear()
        self.policy.clear()

    def pinned(self) -> dict[Node, dict[Pin, None]]:
        """The pins of every node that has any, for checks."""
        return self._pins

    def knows(self, node: Node) -> bool:
        """Whether a candidate waits here, for checks; O(candidates)."""
        return self.policy.knows(node) or any(entry[2] is node for entry in self._early + self._late)

    def num_waiting(self) -> int:
        """Pins that wait for their time to run out, for checks."""
        return len(self._expiries)

    def _cover(self, node: Node, pin: Pin) -> None:
        pins = self._pins.setdefault(node, {})
        if pin not in pins:
            pins[pin] = None
            pin.nodes.add(node)
            ranks = self._ranks.setdefault(node, {})
            ranks[pin.priority] = ranks.get(pin.priority, 0) + 1

    def _let_go(self, pin: Pin) -> list[Node]:
        """Take a pin off its nodes, which are returned to be ranked."""
        self._stop_waiting(pin)
        nodes = list(pin.nodes)
        pin.nodes.clear()
        for node in nodes:
            pins, ranks = self._pins[node], self._ranks[node]
            del pins[pin]
            ranks[pin.priority] -= 1
            if not ranks[pin.priority]:
                del ranks[pin.priority]
            if not pins:
                del self._pins[node], self._ranks[node]
        return nodes

    def _stop_waiting(self, pin: Pin) -> None:
        if pin.due is not None:
            del self._expiries[pin.due]
            pin.due = None

    def _rank(self, node: Node) -> float:
        if ranks := self._ranks.get(node):
            return max(ranks)
        return _EXPIRED if node in self._expired else _ORDINARY

    def _rerank(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if is_candidate(node):
                rank = self._rank(node)
                if rank == _ORDINARY:
                    self.policy.push(node)
                else:
                    self._push_ranked(node, rank)

    def _push_ranked(self, node: Node, rank: float) -> None:
        heap = self._early if rank < _ORDINARY else self._late
        heapq.heappush(heap, (rank, node.last_use, node))
        if len(heap) > 64 + 4 * (len(self._pins) + len(self._expired)):
            current = {id(n): (r, u, n) for r, u, n in heap if is_candidate(n) and self._rank(n) == r}
            heap[:] = sorted(current.values())

    def _pop_ranked(self, heap: list[tuple[float, int, Node]]) -> Node | None:
        while heap:
            rank, last_use, node = heapq.heappop(heap)
            if not is_candidate(node) or self._rank(node) != rank:
                continue  # pushed again, to the right place, when that changed
            if node.last_use != last_use:
                heapq.heappush(heap, (rank, node.last_use, node))
                continue
            return node
        return None

    def _expire(self) -> None:
        now = self._clock()
        while self._expiries and self._expiries.peekitem(0)[0][0] <= now:
            nodes = self._let_go(self._expiries.peekitem(0)[1])
            self._expired.update(nodes)
            self._rerank(nodes)
