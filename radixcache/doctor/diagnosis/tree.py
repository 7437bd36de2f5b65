"""The prefix tree pruned to a size that can be drawn."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from radixcache.doctor.diagnosis.schema import PrefixTree, TreeNode
from radixcache.doctor.lineage import Lineage, PassedEdge
from radixcache.tokens import TOKEN_BYTES

__all__ = ["prune"]

_MOST_NODES = 1500
_MOST_DEPTH = 150
_TEXT_TOKENS = 24
_TEXT = 100
_FOLDED = "…"


def prune(lineage: Lineage, decode: Callable[[bytes], str], unit_tokens: int, requests: int) -> PrefixTree:
    """The edges that most tokens went through; the others folded into nodes that stand for several.

    Edges are opened in the order of the tokens that went through them, until there are 1,500 nodes or a
    branch is 150 deep.

    Args:
        lineage: all prompts of a log.
        decode: packed tokens -> their text.
        unit_tokens: tokens that a unit of the trie stands for.
        requests: number of prompts.
    """
    nodes = [TreeNode(None, 0, requests, "", 0)]
    # (-tokens that went through, serial, index of the node, its last edge, depth): what has children to show
    waiting: list[tuple[int, int, int, PassedEdge, int]] = [(0, 0, 0, lineage.root, 0)]
    while waiting:
        _, _, parent, stretch, depth = heapq.heappop(waiting)
        children = sorted(stretch.children.values(), key=_travelled, reverse=True)
        # One node for each that is waiting is kept back, for what will be folded there.
        room = (_MOST_NODES - len(nodes) - len(waiting) - 1) // 2
        shown = 0 if depth >= _MOST_DEPTH else min(len(children), max(0, room))
        for child in children[:shown]:
            node, last = _node(parent, child, decode, unit_tokens)
            if last.children:
                heapq.heappush(waiting, (-_travelled(child), len(nodes), len(nodes), last, depth + 1))
            nodes.append(node)
        if rest := children[shown:]:
            nodes.append(_folded(parent, rest, unit_tokens))
    return PrefixTree(nodes)


def _travelled(stretch: PassedEdge) -> int:
    return len(stretch.edge) * stretch.requests


def _node(
    parent: int, stretch: PassedEdge, decode: Callable[[bytes], str], unit_tokens: int
) -> tuple[TreeNode, PassedEdge]:
    """A node for an edge and those after it that all its requests went on to, and the last of these."""
    tokens, reused, last = len(stretch.edge), stretch.reused, stretch
    while len(last.children) == 1:
        (only,) = last.children.values()
        if only.requests != stretch.requests:
            break
        tokens, reused, last = tokens + len(only.edge), reused + only.reused, only
    text = decode(stretch.edge[: _TEXT_TOKENS * TOKEN_BYTES])[:_TEXT]
    tokens = tokens // TOKEN_BYTES * unit_tokens
    return TreeNode(parent, tokens, stretch.requests, text, reused * unit_tokens), last


def _folded(parent: int, stretches: Iterable[PassedEdge], unit_tokens: int) -> TreeNode:
    """One node for edges and everything below them."""
    tokens = reused = count = requests = 0
    for stretch in stretches:
        requests += stretch.requests
        below = [stretch]
        while below:
            edge = below.pop()
            count += 1
            tokens += len(edge.edge) // TOKEN_BYTES
            reused += edge.reused
            below += edge.children.values()
    return TreeNode(parent, tokens * unit_tokens, requests, _FOLDED, reused * unit_tokens, folded=count)
