"""What was computed before, and by which request last: the other half of every miss."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple, Self

from radixcache.cache.history import Run, Seen, TokenTrie
from radixcache.cache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES

__all__ = ["NOBODY", "Lineage", "Partner", "PassedEdge"]

NOBODY = -1


class Partner(NamedTuple):
    """The request that a prompt has its longest known prefix from.

    Attributes:
        here: the last request that went that way in the same namespace; `NOBODY` if none did.
        elsewhere: in any namespace.
        namespaces: where that was seen.
    """

    here: int
    elsewhere: int
    namespaces: Collection[Namespace]


class PassedEdge(Run):
    """An edge of the trie, with the requests that passed it.

    Attributes:
        last: the last request that passed its end, or ended there.
        onward: the last one that went on beyond its end.
        requests: how many passed its end, or ended there.
        reused: tokens of it that were reused, all requests together.
    """

    __slots__ = ("last", "onward", "requests", "reused")

    def __init__(self, parent: Self | None, edge: bytes, namespaces: dict[Namespace, int]) -> None:
        super().__init__(parent, edge, namespaces)
        self.last = NOBODY
        self.onward = NOBODY
        self.requests = 0
        self.reused = 0


class Lineage(TokenTrie[PassedEdge]):
    """A history for a cache to explain its misses with, that also knows the requests.

    Before a sequence is added, `entering` and `entering_cached` say which request it is of and how many of
    its tokens were reused. The last look-up leaves its partner in `found`.
    """

    def __init__(self, limit: int, most_ends: int) -> None:
        super().__init__(limit, most_ends, PassedEdge)
        self.found: Partner | None = None
        self.entering = NOBODY
        self.entering_cached = 0

    def lookup(self, query: bytes, namespace: Namespace) -> Seen:
        """How far `query` follows what was seen, in `namespace` and elsewhere; sets `found`."""
        seen, mine, to_end, last = self.follow(query, namespace)
        if mine is None:  # nothing in common: the request before stands for what was there
            here = self.root.onward if self.root.children else NOBODY
        else:
            here = mine.onward if to_end and seen.continues and mine.onward != NOBODY else mine.last
        if last is None:
            self.found = Partner(here, NOBODY, ())
        else:
            self.found = Partner(here, last.last, last.namespaces.keys())
        return seen

    def add(self, tokens: bytes, namespace: Namespace) -> None:
        """Remember a sequence of the request `entering`."""
        path = self.insert(tokens, namespace)
        at, cached = 0, self.entering_cached * TOKEN_BYTES
        for before, edge in pairwise(path):
            before.onward = edge.last = self.entering
            edge.requests += 1
            if cached > at:
                edge.reused += min(cached - at, len(edge.edge)) // TOKEN_BYTES
            at += len(edge.edge)

    def split(self, run: PassedEdge, cut: int) -> PassedEdge:
        """Cut an edge; both parts were passed by the same requests."""
        upper = super().split(run, cut)
        upper.last = upper.onward = run.last
        upper.requests = run.requests
        # Where reuse ended inside the edge is not kept; it is taken to have filled the head first.
        upper.reused = min(run.reused, run.requests * cut // TOKEN_BYTES)
        run.reused -= upper.reused
        return upper
