"""Whichever policy does best on the requests as they come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import Buffer, EvictionPolicy
from radixcache.cache.eviction.density import REMEMBERED, SAMPLED, Density
from radixcache.cache.eviction.gdsf import GDSF
from radixcache.cache.eviction.lfu import LFU
from radixcache.cache.eviction.lru import LRU
from radixcache.cache.eviction.miniature import Miniature
from radixcache.cache.eviction.reuse import ReuseModel
from radixcache.cache.eviction.sampling import Sampled, Sampler
from radixcache.cache.namespaces import Namespace

if TYPE_CHECKING:
    from radixcache.cache.node import Node

_SHARE = 4  # of so many sampled blocks one is in the miniature caches
_DECIDE_EVERY = 32  # requests
_MEMORY = 1 - 1 / 2048  # weight of a request's hits at the next request
_SURE = 3.0  # standard deviations that a lead must have
_SURE_OF_LRU = 2.0  # the same of LRU, to which going back is never far wrong
_LEAD = 0.01  # and so much more hits


class _Runner:
    """A policy that may be chosen: it itself, a miniature cache that it runs, and the hits of that."""

    def __init__(self, real: EvictionPolicy, small: EvictionPolicy, block_size: int) -> None:
        self.real = real
        self.cache = Miniature(small, block_size)
        self.hits = 0.0  # fading sum
        self.lead = 0.0  # fading sum of hits beyond those of the policy in use
        self.spread = 0.0  # fading sum of the squares of the same


class Auto(EvictionPolicy):
    """Density, until another policy has been seen to do better on a sample of the same requests.

    Miniature caches run each policy on a quarter of the sampled blocks of every request (`Sampler`), so what
    they hit tells what the whole cache would.  Every few requests the policy that hits most takes over, if
    its lead over the one in use is more than chance and more than a hundredth; who did not gain from a change
    changes back the same way.  A change ranks all candidates anew, O(n log n).

    The policies: Density, LRU, GDSF and LFU.  The samples are bounded, so the memory is: 10 MB at most
    besides the 400 bytes a node of `Density`.
    """

    name = "auto"

    def __init__(self) -> None:
        self.model = ReuseModel(REMEMBERED)
        self._density = Density(self.model)
        self._sampler = Sampler(1, 1, SAMPLED)
        self._runners: list[_Runner] = []
        self._block_size = 1
        self._requests = 0
        self.active: EvictionPolicy = self._density

    def bind(self, num_blocks: int, block_size: int) -> None:
        self._block_size = block_size
        self._sampler = Sampler(num_blocks, block_size, SAMPLED)
        small = Density(self.model)
        pairs: list[tuple[EvictionPolicy, EvictionPolicy]] = [
            (self._density, small),
            (LRU(), LRU()),
            (GDSF(), GDSF()),
            (LFU(), LFU()),
        ]
        for real, _ in pairs:
            real.bind(num_blocks, block_size)
        self._runners = [_Runner(real, miniature, block_size) for real, miniature in pairs]

    def ended(self, tokens: Buffer, num_tokens: int, namespace: Namespace) -> None:
        sampled = self._sampler.sample(tokens, num_tokens, namespace)
        length = num_tokens // self._block_size
        uses = self.model.request(sampled, length)
        self._density.begin(uses, length)
        if sampled:
            self._compare([block for block in sampled if not block.digest % _SHARE], uses, length)
        self._requests += 1
        if not self._requests % _DECIDE_EVERY:
            self._decide()

    def used(self, node: Node) -> None:
        self._density.used(node)
        if self.active is not self._density:
            self.active.used(node)

    def split(self, upper: Node, lower: Node) -> None:
        self._density.split(upper, lower)
        if self.active is not self._density:
            self.active.split(upper, lower)

    def push(self, node: Node) -> None:
        self.active.push(node)

    def pop(self) -> Node | None:
        return self.active.pop()

    def max_blocks(self, node: Node) -> int:
        return self.active.max_blocks(node)

    def removed(self, node: Node) -> None:
        self._density.removed(node)
        if self.active is not self._density:
            self.active.removed(node)

    def knows(self, node: Node) -> bool:
        return self.active.knows(node)

    def clear(self) -> None:
        self.model.clear()
        for runner in self._runners:
            runner.real.clear()
            runner.cache.clear()

    def _compare(self, sampled: list[Sampled], uses: list[tuple[int, int]], length: int) -> None:
        capacity = max(1, self._sampler.capacity // _SHARE)
        hits = []
        for runner in self._runners:
            if isinstance(runner.cache.policy, Density):
                runner.cache.policy.begin(uses, length)
            hits.append(runner.cache.request(sampled, capacity))
        in_use = next(
            found for found, runner in zip(hits, self._runners, strict=True) if runner.real is self.active
        )
        for found, runner in zip(hits, self._runners, strict=True):
            lead = found - in_use
            runner.hits = runner.hits * _MEMORY + found
            runner.lead = runner.lead * _MEMORY + lead
            runner.spread = runner.spread * _MEMORY + lead * lead

    def _decide(self) -> None:
        best = max(self._runners, key=lambda runner: runner.lead)
        if best.real is self.active:
            return
        sure = _SURE_OF_LRU if isinstance(best.real, LRU) else _SURE
        if best.lead > sure * math.sqrt(best.spread) and best.lead > _LEAD * (best.hits - best.lead):
            self._change(best)

    def _change(self, chosen: _Runner) -> None:
        waiting = []
        while (node := self.active.pop()) is not None:
            waiting.append(node)
        if self.active is not self._density:
            self.active.clear()
        self.active = chosen.real
        for node in waiting:
            self.active.push(node)
        base = chosen.hits
        for runner in self._runners:
            runner.lead = runner.hits - base
