"""Greedy dual, by use and by what recomputing costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import HeapPolicy

if TYPE_CHECKING:
    from radixcache.cache.node import Node

ATTENTION_TOKENS = 16_384
"""The depth at which attending to what came before costs as much as the rest of a token's layer does.

Products with the weights take about 24 w² operations a token and layer of width w, attention 4 w for each
token before it: they meet at 6 w tokens, 16 k for models of some 3,000.
"""


class GDSF(HeapPolicy):
    """Uses times cost a block, on top of an age that rises with each eviction.

    After L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy",
    HP Labs 1998, and P. Cao and S. Irani, "Cost-Aware WWW Proxy Caching Algorithms", USITS '97.  All blocks
    are one size here, and what recomputing one costs grows with its depth, as attention is quadratic.  A node
    that is used again rises by the age of that time, so what was popular once leaves in the end.
    """

    name = "gdsf"

    def __init__(self) -> None:
        super().__init__()
        self._age = 0.0
        self._keys: dict[Node, tuple[int, float]] = {}  # uses when it was ranked, and its rank

    def key(self, node: Node) -> float:
        known = self._keys.get(node)
        if known is None or known[0] != node.uses:
            cost = 1 + (node.depth + node.num_tokens) / ATTENTION_TOKENS
            rank = self._age + node.uses * cost
            known = self._keys[node] = (node.uses, rank if known is None else max(rank, known[1]))
        return known[1]

    def used(self, node: Node) -> None:
        self.key(node)

    def pop(self) -> Node | None:
        node = super().pop()
        if node is not None:
            self._age = max(self._age, self._keys[node][1])
        return node

    def removed(self, node: Node) -> None:
        super().removed(node)
        self._keys.pop(node, None)

    def clear(self) -> None:
        super().clear()
        self._keys.clear()
        self._age = 0.0
