"""Evicts by expected hits per block and time, learned from the requests so far."""

from __future__ import annotations

import heapq
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import Buffer, EvictionPolicy, is_candidate
from radixcache.cache.eviction.nodeuse import NodeUse
from radixcache.cache.eviction.reuse import EDGES, NUM_BINS, ReuseModel, age_bin, class_of
from radixcache.cache.eviction.sampling import Sampler
from radixcache.cache.namespaces import Namespace

if TYPE_CHECKING:
    from radixcache.cache.node import Node

SAMPLED = 2048
"""Sampled blocks that fill the cache, at most."""
REMEMBERED = 16384
"""Sampled blocks that are remembered."""
_MOVE_EVERY = 8  # requests, at most, between looks for nodes that have aged
_NODES = 64  # a small cache looks every `nodes / _NODES` requests: ages are short there

_Bin = tuple[int, int]  # class and range of age


class Density(EvictionPolicy):
    """The tail of lowest hit density leaves first (see `ReuseModel`).

    Leaves whose tails are of one class and range of age share a bin; the bins that are not empty are in a
    heap by rank.  A push or pop costs O(log bins), a use O(nodes on the path), and a node moves to the next
    bin a few dozen times in its life at most.  Takes some 400 bytes a node, and 5 MB at most besides.

    Args:
        model: a model that the caller trains, calling `begin` as well; None for a private one.
    """

    name = "density"

    def __init__(self, model: ReuseModel | None = None) -> None:
        self._sampler: Sampler | None = None
        self._own = model is None
        self.model = ReuseModel(REMEMBERED) if model is None else model
        self._block_size = 1
        self._uses: dict[Node, NodeUse] = {}
        self._bins: dict[_Bin, OrderedDict[Node, None]] = {}
        self._heap: list[tuple[float, int, _Bin]] = []
        self._due: list[tuple[int, _Bin]] = []  # heap: when a bin's first node is too old for it
        self._due_at: dict[_Bin, int] = {}  # the entry of each bin that counts
        self._version = 0
        self._moved = 0
        self._sampled_uses: list[tuple[int, int]] = []  # of the request that ends now: place, uses
        self._length = 0  # and its blocks

    def bind(self, num_blocks: int, block_size: int) -> None:
        self._block_size = block_size
        if self._own:
            self._sampler = Sampler(num_blocks, block_size, SAMPLED)

    def ended(self, tokens: Buffer, num_tokens: int, namespace: Namespace) -> None:
        if self._sampler is not None:
            length = num_tokens // self._block_size
            sampled = self._sampler.sample(tokens, num_tokens, namespace)
            self.begin(self.model.request(sampled, length), length)

    def begin(self, sampled_uses: list[tuple[int, int]], length: int) -> None:
        """The next `used` is of a request of `length` blocks; place and uses of each sampled one."""
        self._sampled_uses = sampled_uses
        self._length = length

    def used(self, node: Node) -> None:
        size, now = self._block_size, self.model.now
        at = node
        while at.parent is not None:
            use = self._uses.get(at)
            start = at.depth // size
            if use is None:
                use = self._uses[at] = NodeUse(start, now, self._length)
            else:
                use.again(now, self._length)
                if use.bin is not None:
                    self._leave(at, use)
                    if is_candidate(at):
                        self.push(at)
            if start + at.num_blocks > use.end:
                use.grow(start + at.num_blocks, self._sampled_uses)
            at = at.parent

    def split(self, upper: Node, lower: Node) -> None:
        use = self._uses.get(lower)
        if use is not None:
            self._uses[upper] = use.split(lower.depth // self._block_size)

    def push(self, node: Node) -> None:
        start = node.depth // self._block_size
        end = start + node.num_blocks
        use = self._uses.get(node)
        if use is None:
            use = self._uses[node] = NodeUse(start, self.model.now, end)
            use.grow(end, [])
        use.cut(end)
        if use.bin is None:
            group = class_of(use.uses[-1], max(use.length, end))
            self._enter(node, use, (group, age_bin(self.model.now - use.last)))

    def pop(self) -> Node | None:
        self._move()
        heap, bins = self._heap, self._bins
        while heap:
            place = heap[0][2]
            waiting = bins.get(place)
            while waiting:
                node, _ = waiting.popitem(last=False)
                use = self._uses[node]
                use.bin = None
                if is_candidate(node):
                    return node
            bins.pop(place, None)
            heapq.heappop(heap)
        return None

    def max_blocks(self, node: Node) -> int:
        use = self._uses.get(node)
        return sys.maxsize if use is None else max(1, use.end - use.starts[-1])

    def removed(self, node: Node) -> None:
        use = self._uses.pop(node, None)
        if use is not None and use.bin is not None:
            self._leave(node, use)

    def knows(self, node: Node) -> bool:
        use = self._uses.get(node)
        return use is not None and use.bin is not None

    def clear(self) -> None:
        self._uses.clear()
        self._bins.clear()
        self._heap.clear()
        self._due.clear()
        self._due_at.clear()
        if self._own:
            self.model.clear()

    def _enter(self, node: Node, use: NodeUse, place: _Bin) -> None:
        waiting = self._bins.get(place)
        if waiting is None:
            waiting = self._bins[place] = OrderedDict()
            heapq.heappush(self._heap, self._entry(place))
        elif waiting and self._uses[next(iter(waiting))].last >= use.last:
            waiting[node] = None
            waiting.move_to_end(node, last=False)
        waiting[node] = None
        use.bin = place
        self._watch(place, use.last)

    def _leave(self, node: Node, use: NodeUse) -> None:
        assert use.bin is not None
        del self._bins[use.bin][node]
        use.bin = None

    def _watch(self, place: _Bin, last: int) -> None:
        """Look at a bin again when a node used at request `last` is too old for it."""
        _, age = place
        if age < NUM_BINS - 1:
            due = last + EDGES[age + 1]
            if due < self._due_at.get(place, sys.maxsize):
                self._due_at[place] = due
                heapq.heappush(self._due, (due, place))

    def _age(self, place: _Bin) -> None:
        """Move the nodes of a bin that are too old for it."""
        group, age = place
        waiting = self._bins.get(place)
        while waiting:
            node = next(iter(waiting))
            use = self._uses[node]
            older = age_bin(self.model.now - use.last)
            if older <= age:
                self._watch(place, use.last)
                return
            self._leave(node, use)
            self._enter(node, use, (group, older))

    def _entry(self, place: _Bin) -> tuple[float, int, _Bin]:
        group, age = place
        return (self.model.rank[group][age], -age, place)

    def _move(self) -> None:
        """Move nodes that have aged to their bins, and sort the bins if the ranks are new."""
        now = self.model.now
        if now - self._moved >= min(_MOVE_EVERY, 1 + len(self._uses) // _NODES):
            self._moved = now
            while self._due and self._due[0][0] <= now:
                due, place = heapq.heappop(self._due)
                if self._due_at.get(place) == due:
                    del self._due_at[place]
                    self._age(place)
        if self._version != self.model.version:
            self._version = self.model.version
            self._bins = {place: waiting for place, waiting in self._bins.items() if waiting}
            self._heap = [self._entry(place) for place in self._bins]
            heapq.heapify(self._heap)
