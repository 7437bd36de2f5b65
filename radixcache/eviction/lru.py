"""Least recently used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radixcache.eviction.base import HeapPolicy

if TYPE_CHECKING:
    from radixcache.node import Node


class LRU(HeapPolicy):
    """The leaf whose last lease was released longest ago leaves first."""

    name = "lru"

    def key(self, node: Node) -> int:
        return node.last_use
