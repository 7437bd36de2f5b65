"""A bounded memory of every sequence computed so far, to tell why a prompt missed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from radixcache.cache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES, common_prefix

_APPEND_BYTES = 1 << 14  # a run longer than this is continued in a child, not copied to be extended
_TOKENS_AN_END = 4  # an end takes the memory of some more tokens; this many are allowed for each


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


class _Run:
    """An edge of the trie.

    Attributes:
        namespaces: those in which a remembered sequence passes its end or ends there: of each, the children
            that have it, and one more if a sequence ends here.
    """

    __slots__ = ("children", "edge", "namespaces", "parent")

    def __init__(self, parent: _Run | None, edge: bytes, namespaces: dict[Namespace, int]) -> None:
        self.parent = parent
        self.edge = edge
        self.namespaces = namespaces
        self.children: dict[bytes, _Run] = {}


class History:
    """A radix trie of tokens without blocks, all namespaces in one, forgetting the oldest sequences.

    A sequence is remembered by its end: a run and a namespace.  One that another of its namespace goes on
    from is that other one's.  An entry costs its tokens that no other shares, 4 bytes each, and some hundred
    bytes for its end; at most `limit` tokens and `limit / 4` ends are remembered, so that namespaces that
    are gone are forgotten however much is shared with those that are not.  Adding and looking up are
    O(length) bytes of memcmp.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.num_tokens = 0
        self._root = _Run(None, b"", {})
        self._ends: OrderedDict[tuple[_Run, Namespace], None] = OrderedDict()  # the longest untouched first

    def lookup(self, query: bytes, namespace: Namespace) -> Seen:
        """How far `query` follows what was seen in `namespace` and elsewhere."""
        run, pos, here = self._root, 0, 0
        last: _Run | None = None  # the last run seen in this namespace and matched to its end
        continues = False
        while child := run.children.get(query[pos : pos + TOKEN_BYTES]):
            edge = child.edge
            whole = query.startswith(edge, pos)
            pos += len(edge) if whole else common_prefix(query, edge, pos) * TOKEN_BYTES
            if namespace in child.namespaces:
                here, continues, last = pos, not whole, child if whole else None
            if not whole:
                break
            run = child
        if last is not None:
            continues = any(namespace in child.namespaces for child in last.children.values())
        return Seen(here // TOKEN_BYTES, pos // TOKEN_BYTES, continues)

    def add(self, tokens: bytes, namespace: Namespace) -> None:
        """Remember a sequence."""
        run, pos, end = self._root, 0, len(tokens)
        passed: list[_Run] = []
        while pos < end:
            child = run.children.get(tokens[pos : pos + TOKEN_BYTES])
            if child is None:
                child = self._grow(run, tokens[pos:], namespace)
            elif not tokens.startswith(child.edge, pos):
                child = self._split(child, common_prefix(tokens, child.edge, pos) * TOKEN_BYTES)
            if child is run:
                break
            passed.append(run)
            pos += len(child.edge)
            run = child
        if run is self._root:
            return
        self._remember(run, namespace)
        for before in passed:
            if (before, namespace) in self._ends:
                del self._ends[before, namespace]
                self._release(before, namespace)
        while self._ends and (self.num_tokens > self.limit or len(self._ends) * _TOKENS_AN_END > self.limit):
            oldest, _ = self._ends.popitem(last=False)
            self._release(*oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._root.children.clear()
        self._ends.clear()
        self.num_tokens = 0

    def _grow(self, run: _Run, tokens: bytes, namespace: Namespace) -> _Run:
        """A new run after `run`, or `run` itself, made longer: a conversation stays one run."""
        self.num_tokens += len(tokens) // TOKEN_BYTES
        alone = not run.children and run.namespaces.keys() == {namespace}
        if alone and len(run.edge) <= _APPEND_BYTES:
            run.edge += tokens
            return run
        child = run.children[tokens[:TOKEN_BYTES]] = _Run(run, tokens, {})
        return child

    def _split(self, run: _Run, cut: int) -> _Run:
        parent, edge = run.parent, run.edge
        assert parent is not None
        upper = _Run(parent, edge[:cut], dict.fromkeys(run.namespaces, 1))
        parent.children[edge[:TOKEN_BYTES]] = upper
        run.parent, run.edge = upper, edge[cut:]
        upper.children[run.edge[:TOKEN_BYTES]] = run
        return upper

    def _remember(self, run: _Run, namespace: Namespace) -> None:
        """A sequence ends at `run`: it is the newest, and the runs on its path have its namespace."""
        if (run, namespace) in self._ends:
            self._ends.move_to_end((run, namespace))
            return
        self._ends[run, namespace] = None
        hold(run, namespace)

    def _release(self, run: _Run, namespace: Namespace) -> None:
        """An end was forgotten; runs that nothing remembered passes any more go with it."""
        for bare in let_go(run, namespace):
            if not bare.namespaces:
                del bare.parent.children[bare.edge[:TOKEN_BYTES]]
                self.num_tokens -= len(bare.edge) // TOKEN_BYTES


def hold(run: Any, namespace: Namespace) -> None:
    """One more end or child of an edge of a trie has a namespace, and so have the edges before it."""
    while run.parent is not None:
        holders = run.namespaces.get(namespace, 0)
        run.namespaces[namespace] = holders + 1
        if holders:
            return
        run = run.parent


def let_go(run: Any, namespace: Namespace) -> list[Any]:
    """Take back one `hold`; returns the edges that do not have the namespace any more, the last one first."""
    bare = []
    while run.parent is not None:
        run.namespaces[namespace] -= 1
        if run.namespaces[namespace]:
            break
        del run.namespaces[namespace]
        bare.append(run)
        run = run.parent
    return bare
