"""Chooses among policies by how they do on a sample of the requests."""

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

_SMALLEST = 128  # sampled blocks that fill a miniature cache, where there are as many
_SHARE = 2  # one in this many sampled blocks is in the miniature caches
_DECIDE_EVERY = 16  # requests
_HORIZONS = ((1 - 1 / 256, 4.0), (1 - 1 / 4096, 3.0))
"""Pairs: weight of the past at each request, and the standard deviations that a lead must have."""
_USUAL = 0.5  # share of that evidence which is enough for LRU and Density, which are seldom far wrong
_LEAD = 0.005  # least lead as a share of hits


class _Evidence:
    """Fading sums over requests of what a candidate hits and the policy in use does not."""

    def __init__(self, memory: float, sure: float) -> None:
        self._memory = memory
        self._sure = sure
        self.hits = 0.0  # of the policy in use
        self.lead = 0.0
        self.spread = 0.0  # of the squares of leads

    def add(self, in_use: int, lead: int) -> None:
        """One request: hits of the policy in use, and hits of the candidate beyond those."""
        self.hits = self.hits * self._memory + in_use
        self.lead = self.lead * self._memory + lead
        self.spread = self.spread * self._memory + lead * lead

    def certainty(self) -> float:
        """The lead in standard deviations, divided by the number required; 0 if the lead is too small."""
        if self.lead <= _LEAD * self.hits:
            return 0.0
        return self.lead / math.sqrt(self.spread) / self._sure


class _Runner:
    """A policy that may be chosen, and a miniature cache that runs another one of its kind."""

    def __init__(self, real: EvictionPolicy, small: EvictionPolicy, block_size: int) -> None:
        self.real = real
        self.cache = Miniature(small, block_size)
        self.hits = 0
        self.evidence: list[_Evidence] = []
        self.reset()

    def reset(self) -> None:
        """Start counting again: another policy is in use."""
        self.evidence = [_Evidence(memory, sure) for memory, sure in _HORIZONS]

    def certainty(self) -> float:
        """Evidence for this candidate; more than 1 is enough to take over."""
        sure = max(evidence.certainty() for evidence in self.evidence)
        return sure / _USUAL if isinstance(self.real, LRU | Density) else sure


class Auto(EvictionPolicy):
    """LRU, until another policy has been seen to do better on a sample of the same requests.

    Miniature caches run each policy on half of the sampled blocks of every request (`Sampler`), or on all of
    them where they are few, so their hits estimate those of the whole cache.  Every few requests the best
    candidate takes over if its lead over the policy in use is larger than chance allows: by three standard
    deviations over the last few thousand requests, or by four over the last few hundred, which notices a
    change of the workload early.  Half of that is enough for LRU and Density.  A change that does not pay is
    reversed by the same rule.  Changing ranks all candidates again, O(n log n).

    The policies: Density, LRU, GDSF and LFU.  Samples are bounded, and so is memory: 10 MB at most, plus the
    400 bytes a node of `Density`.

    Attributes:
        active: the policy in use.
    """

    name = "auto"

    def __init__(self) -> None:
        self.model = ReuseModel(REMEMBERED)
        self._density = Density(self.model)
        self._sampler = Sampler(1, 1, SAMPLED)
        self._runners: list[_Runner] = []
        self._block_size = 1
        self._requests = 0
        self._rate = (0, 0)
        self._lru = LRU()
        self.active: EvictionPolicy = self._lru

    def bind(self, num_blocks: int, block_size: int) -> None:
        self._block_size = block_size
        self._sampler = Sampler(num_blocks, block_size, SAMPLED)
        small = Density(self.model)
        pairs: list[tuple[EvictionPolicy, EvictionPolicy]] = [
            (self._density, small),
            (self._lru, LRU()),
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
            share = _SHARE if self._sampler.capacity >= _SHARE * _SMALLEST else 1
            self._compare([block for block in sampled if not block.digest % share], uses, length, share)
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

    def _compare(self, sampled: list[Sampled], uses: list[tuple[int, int]], length: int, share: int) -> None:
        capacity = max(1, self._sampler.capacity // share)
        rate = (self._sampler.shift, share)
        if rate != self._rate:  # other blocks are sampled now: those that left would never be hit
            self._rate = rate
            for runner in self._runners:
                runner.cache.clear()
        hits = []
        in_use = 0
        for runner in self._runners:
            if isinstance(runner.cache.policy, Density):
                runner.cache.policy.begin(uses, length)
            hits.append(runner.cache.request(sampled, capacity))
            if runner.real is self.active:
                in_use = hits[-1]
        for found, runner in zip(hits, self._runners, strict=True):
            runner.hits += found
            for evidence in runner.evidence:
                evidence.add(in_use, found - in_use)

    def _decide(self) -> None:
        best = max(self._runners, key=_Runner.certainty)
        if best.certainty() > 1 and best.real is not self.active:
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
        for runner in self._runners:
            runner.reset()
