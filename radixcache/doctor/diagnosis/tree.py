"""The prefix tree made small enough to draw."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from radixcache.doctor.diagnosis.schema import TreeNode
from radixcache.doctor.lineage import Lineage, Stretch
from radixcache.tokens import TOKEN_BYTES

__all__ = ["prune"]

_MOST_NODES = 1500
_MOST_DEPTH = 150
_TEXT_TOKENS = 24
_TEXT = 100
_FOLDED = "…"


def prune(lineage: Lineage, decode: Callable[[bytes], str], unit_tokens: int, requests: int) -> TreeNode:
    """The most travelled stretches; the rest folded into nodes that stand for several.

    Stretches are opened in the order of the tokens that went through them, until there are 1,500 nodes or
    a branch is 150 deep.
    """
    root = TreeNode(0, requests, "", 0)
    nodes = 1
    serial = 0
    # (-tokens that went through, serial, the node, its stretch, depth): what has children to show
    waiting: list[tuple[int, int, TreeNode, Stretch, int]] = [(0, 0, root, lineage.root, 0)]
    while waiting:
        _, _, node, stretch, depth = heapq.heappop(waiting)
        children = sorted((stretch.children or {}).values(), key=_travelled, reverse=True)
        # One node for each that is waiting is kept back, for what will be folded there.
        room = (_MOST_NODES - nodes - len(waiting) - 1) // 2
        shown = 0 if depth >= _MOST_DEPTH else min(len(children), max(0, room))
        for child in children[:shown]:
            follower, last = _node(child, decode, unit_tokens)
            node.children.append(follower)
            nodes += 1
            if last.children:
                serial += 1
                heapq.heappush(waiting, (-_travelled(child), serial, follower, last, depth + 1))
        if rest := children[shown:]:
            nodes += 1
            node.children.append(_folded(rest, unit_tokens))
    return root


def _travelled(stretch: Stretch) -> int:
    return len(stretch.edge) * stretch.requests


def _node(stretch: Stretch, decode: Callable[[bytes], str], unit_tokens: int) -> tuple[TreeNode, Stretch]:
    """A node for a stretch and those after it that everyone went on to, and the last of these."""
    tokens, reused, last = len(stretch.edge), stretch.reused, stretch
    while last.children and len(last.children) == 1:
        (only,) = last.children.values()
        if only.requests != stretch.requests:
            break
        tokens, reused, last = tokens + len(only.edge), reused + only.reused, only
    text = decode(stretch.edge[: _TEXT_TOKENS * TOKEN_BYTES])[:_TEXT]
    return (
        TreeNode(tokens // TOKEN_BYTES * unit_tokens, stretch.requests, text, reused * unit_tokens),
        last,
    )


def _folded(stretches: list[Stretch], unit_tokens: int) -> TreeNode:
    """One node for stretches and all below them."""
    tokens = reused = count = 0
    below = list(stretches)
    while below:
        stretch = below.pop()
        count += 1
        tokens += len(stretch.edge) // TOKEN_BYTES
        reused += stretch.reused
        below += (stretch.children or {}).values()
    requests = sum(stretch.requests for stretch in stretches)
    return TreeNode(tokens * unit_tokens, requests, _FOLDED, reused * unit_tokens, folded=count)
