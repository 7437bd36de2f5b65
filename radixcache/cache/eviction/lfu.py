"""Least frequently used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.cache.eviction.base import HeapPolicy

if TYPE_CHECKING:
    from radixcache.cache.node import Node


class LFU(HeapPolicy):
    """The leaf that the fewest leases ended at or below leaves first, the longest unused among equals.

    Counts do not age, so what was popular once stays: `GDSF` is the same idea with aging.
    """

    name = "lfu"

    def key(self, node: Node) -> tuple[int, int]:
        return (node.uses, node.last_use)
