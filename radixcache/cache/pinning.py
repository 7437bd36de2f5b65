"""Pins and retention of ranges of what is cached."""

from __future__ import annotations

from collections.abc import Sequence

from radixcache.cache.eviction import Pin, Retention, check_ranges
from radixcache.cache.node import Node
from radixcache.cache.tree import RadixTree


def retain(
    tree: RadixTree, root: Node | None, packed: bytes, ranges: Sequence[Retention], now: float
) -> tuple[Pin, ...]:
    """Put ranges of what is published of a prompt under a pin each, cutting nodes where a range ends.

    Raises:
        ValueError: ranges overlap.
    """
    check_ranges(ranges)
    size = tree.block_size
    pins = []
    node = None
    if root is not None:
        node, blocks, *_ = tree.match(root, packed, len(packed))
        node = _cut(tree, node, node.depth // size + blocks)
    for wanted in ranges:
        pin = Pin(wanted.priority, None if wanted.ttl is None else now + wanted.ttl)
        pins.append(pin)
        if node is None:
            continue
        start = wanted.start // size
        stop = (node.depth + node.num_tokens) // size
        if wanted.end is not None:
            stop = min(stop, -(-wanted.end // size))
        if start >= stop:
            continue
        last = _cut(tree, node, stop)
        if start:
            _cut(tree, last, start)
        covered = [at for at in tree.path(last) if at.depth >= start * size]
        pin.num_tokens = sum(at.num_tokens for at in covered)
        tree.queue.pin(pin, covered)
    return tuple(pins)


def _cut(tree: RadixTree, node: Node, block: int) -> Node:
    """The node on the path to `node` that ends after `block` blocks, split off if need be."""
    tokens = block * tree.block_size
    while node.depth >= tokens and node.parent is not None:
        node = node.parent
    count = (tokens - node.depth) // tree.block_size
    return tree.split(node, count) if count < node.num_blocks else node
