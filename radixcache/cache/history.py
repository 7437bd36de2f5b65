"""A bounded memory of every sequence computed so far, to tell why a prompt missed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Self, TypeVar

from radixcache.cache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES, common_prefix

_APPEND_BYTES = 1 << 14  # a longer edge is continued in a child instead of being copied to be extended
_TOKENS_AN_END = 4  # an end takes the memory of some more tokens; that many are allowed for each


class Seen(NamedTuple):
    """How far a prompt follows what was seen before.

    Attributes:
        here: tokens in common with something seen in the same namespace.
        elsewhere: tokens in common with something seen in any namespace.
        continues: whether what was seen here goes on after `here`, that is, differently.
    """

    here: int
    elsewhere: int
    continues: bool


class Run:
    """An edge of the trie.

    Attributes:
        edge: its tokens, packed.
        parent: the edge before it; None for the root.
        children: the edges after it, by their first token.
        namespaces: those in which a remembered sequence passes its end or ends there: of each, the number of
            children that have it, plus one if a sequence ends here.
    """

    __slots__ = ("children", "edge", "namespaces", "parent")

    def __init__(self, parent: Self | None, edge: bytes, namespaces: dict[Namespace, int]) -> None:
        self.parent = parent
        self.edge = edge
        self.namespaces = namespaces
        self.children: dict[bytes, Self] = {}


RunT = TypeVar("RunT", bound=Run)


class TokenTrie(Generic[RunT]):
    """A radix trie of tokens without blocks, all namespaces in one, forgetting the oldest sequences.

    A sequence is remembered by its end: an edge and a namespace. One that another of its namespace continues
    is part of that other one. An entry costs its tokens that no other shares, 4 bytes each, and some hundred
    bytes for its end; at most `limit` tokens and `most_ends` ends are remembered, so that namespaces that
    are gone are forgotten however much is shared with those that are not. Adding and looking up are
    O(length) bytes of memcmp.

    Args:
        limit: the most tokens to remember.
        most_ends: the most ends to remember.
        make: makes an edge of its parent, its tokens and its namespaces; with a record, if it has one.
        append_bytes: an edge of up to this many bytes that one sequence alone ends at is made longer when
            that sequence goes on, instead of getting a child; 0 where edges have records.
    """

    def __init__(
        self,
        limit: int,
        most_ends: int,
        make: Callable[[RunT | None, bytes, dict[Namespace, int]], RunT],
        append_bytes: int = 0,
    ) -> None:
        self.limit = limit
        self.most_ends = most_ends
        self.num_tokens = 0
        self.root = make(None, b"", {})
        self._make = make
        self._append_bytes = append_bytes
        self._ends: OrderedDict[tuple[RunT, Namespace], None] = OrderedDict()  # the oldest first

    def follow(self, query: bytes, namespace: Namespace) -> tuple[Seen, RunT | None, bool, RunT | None]:
        """How far `query` follows what was seen in `namespace` and elsewhere.

        Returns:
            That, the last edge that it follows in `namespace`, whether to the edge's end, and the last edge
            that it follows in any namespace.
        """
        run, pos, here = self.root, 0, 0
        mine: RunT | None = None
        last: RunT | None = None
        continues = False
        while child := run.children.get(query[pos : pos + TOKEN_BYTES]):
            edge = child.edge
            whole = query.startswith(edge, pos)
            pos += len(edge) if whole else common_prefix(query, edge, pos) * TOKEN_BYTES
            last = child
            if namespace in child.namespaces:
                here, continues, mine = pos, not whole, child
            if not whole:
                break
            run = child
        to_end = mine is not None and not continues
        if mine is not None and to_end:
            continues = any(namespace in child.namespaces for child in mine.children.values())
        return Seen(here // TOKEN_BYTES, pos // TOKEN_BYTES, continues), mine, to_end, last

    def path(self, query: bytes) -> Iterator[tuple[int, RunT]]:
        """The edges that `query` follows, each with the bytes before it; the last one perhaps in part."""
        run, pos = self.root, 0
        while child := run.children.get(query[pos : pos + TOKEN_BYTES]):
            yield pos, child
            if not query.startswith(child.edge, pos):
                return
            pos += len(child.edge)
            run = child

    def insert(self, tokens: bytes, namespace: Namespace) -> list[RunT]:
        """Remember a sequence; returns the edges from the root to its end."""
        run, pos, end = self.root, 0, len(tokens)
        passed: list[RunT] = []
        while pos < end:
            child = run.children.get(tokens[pos : pos + TOKEN_BYTES])
            if child is None:
                child = self._grow(run, tokens[pos:], namespace)
            elif not tokens.startswith(child.edge, pos):
                child = self.split(child, common_prefix(tokens, child.edge, pos) * TOKEN_BYTES)
            if child is run:
                break
            passed.append(run)
            pos += len(child.edge)
            run = child
        if run is self.root:
            return [run]
        self._remember(run, namespace)
        for before in passed:
            if (before, namespace) in self._ends:
                del self._ends[before, namespace]
                self._release(before, namespace)
        while self._ends and (self.num_tokens > self.limit or len(self._ends) > self.most_ends):
            oldest, _ = self._ends.popitem(last=False)
            self._release(*oldest)
        passed.append(run)
        return passed

    def clear(self) -> None:
        """Forget everything."""
        self.root.children.clear()
        self._ends.clear()
        self.num_tokens = 0

    def split(self, run: RunT, cut: int) -> RunT:
        """Cut an edge after `cut` bytes; returns the upper part, which is new."""
        parent, edge = run.parent, run.edge
        assert parent is not None
        upper = self._make(parent, edge[:cut], dict.fromkeys(run.namespaces, 1))
        parent.children[edge[:TOKEN_BYTES]] = upper
        run.parent, run.edge = upper, edge[cut:]
        upper.children[run.edge[:TOKEN_BYTES]] = run
        return upper

    def _grow(self, run: RunT, tokens: bytes, namespace: Namespace) -> RunT:
        """A new edge after `run`, or `run` itself, made longer."""
        self.num_tokens += len(tokens) // TOKEN_BYTES
        if len(run.edge) <= self._append_bytes and not run.children and run.namespaces.keys() == {namespace}:
            run.edge += tokens
            return run
        child = run.children[tokens[:TOKEN_BYTES]] = self._make(run, tokens, {})
        return child

    def _remember(self, run: RunT, namespace: Namespace) -> None:
        """A sequence ends at `run`: it is the newest, and the edges on its path have its namespace."""
        if (run, namespace) in self._ends:
            self._ends.move_to_end((run, namespace))
            return
        self._ends[run, namespace] = None
        at = run
        while at.parent is not None:
            holders = at.namespaces.get(namespace, 0)
            at.namespaces[namespace] = holders + 1
            if holders:
                return
            at = at.parent

    def _release(self, run: RunT, namespace: Namespace) -> None:
        """An end was forgotten; edges that nothing remembered passes any more go with it."""
        at = run
        while (parent := at.parent) is not None:
            at.namespaces[namespace] -= 1
            if at.namespaces[namespace]:
                return
            del at.namespaces[namespace]
            if not at.namespaces:
                del parent.children[at.edge[:TOKEN_BYTES]]
                self.num_tokens -= len(at.edge) // TOKEN_BYTES
            at = parent


class History(TokenTrie[Run]):
    """What was computed before, for a cache to explain its misses with: `limit` tokens, `limit / 4` ends."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, limit // _TOKENS_AN_END, Run, _APPEND_BYTES)

    def lookup(self, query: bytes, namespace: Namespace) -> Seen:
        """How far `query` follows what was seen in `namespace` and elsewhere."""
        return self.follow(query, namespace)[0]

    def add(self, tokens: bytes, namespace: Namespace) -> None:
        """Remember a sequence."""
        self.insert(tokens, namespace)
