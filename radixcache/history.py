"""A bounded memory of every sequence computed so far, to tell why a prompt missed."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from radixcache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES, common_prefix

_APPEND_BYTES = 1 << 14  # a run longer than this is continued in a child, not copied to be extended


class Seen(NamedTuple):
    """How far a prompt follows what was seen before.

    Attributes:
        here: tokens in common with something seen in the same namespace.
        elsewhere: tokens in common with something seen in any namespace.
        continues: whether what was seen here goes on after `here`, that is, otherwise.
    """

    here: int
    elsewhere: int
    continues: bool


class _Run:
    """An edge of the trie and the namespaces that were seen to pass it to its end."""

    __slots__ = ("children", "edge", "namespaces", "parent")

    def __init__(self, parent: _Run | None, edge: bytes, namespaces: Namespace | set[Namespace]) -> None:
        self.parent = parent
        self.edge = edge
        self.namespaces = namespaces  # one alone, or a set of several
        self.children: dict[bytes, _Run] = {}

    def seen_in(self, namespace: Namespace) -> bool:
        known = self.namespaces
        return namespace in known if isinstance(known, set) else namespace == known


class History:
    """A radix trie of tokens without blocks, all namespaces in one, forgetting the oldest leaves.

    An entry costs its tokens that no other shares, 4 bytes each, and at most `limit` tokens are
    remembered.  Adding and looking up are O(length) bytes of memcmp.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.num_tokens = 0
        self._root = _Run(None, b"", set())
        self._leaves: OrderedDict[_Run, None] = OrderedDict()  # the longest untouched first

    def lookup(self, query: bytes, namespace: Namespace) -> Seen:
        """How far `query` follows what was seen in `namespace` and elsewhere."""
        run, pos, here = self._root, 0, 0
        last: _Run | None = None  # the last run seen in this namespace and matched to its end
        continues = False
        while child := run.children.get(query[pos : pos + TOKEN_BYTES]):
            edge = child.edge
            whole = query.startswith(edge, pos)
            pos += len(edge) if whole else common_prefix(query, edge, pos) * TOKEN_BYTES
            if child.seen_in(namespace):
                here, continues, last = pos, not whole, child if whole else None
            if not whole:
                break
            run = child
        if last is not None:
            continues = any(child.seen_in(namespace) for child in last.children.values())
        return Seen(here // TOKEN_BYTES, pos // TOKEN_BYTES, continues)

    def add(self, tokens: bytes, namespace: Namespace) -> None:
        """Remember a sequence."""
        run, pos, end = self._root, 0, len(tokens)
        while pos < end:
            key = tokens[pos : pos + TOKEN_BYTES]
            child = run.children.get(key)
            if child is None:
                self._grow(run, tokens[pos:], namespace)
                return
            edge = child.edge
            if not tokens.startswith(edge, pos):
                child = self._split(child, common_prefix(tokens, edge, pos) * TOKEN_BYTES)
            known = child.namespaces
            if isinstance(known, set):
                known.add(namespace)
            elif known != namespace:
                child.namespaces = {known, namespace}
            pos += len(child.edge)
            run = child
        if run in self._leaves:
            self._leaves.move_to_end(run)

    def clear(self) -> None:
        """Forget everything."""
        self._root.children.clear()
        self._leaves.clear()
        self.num_tokens = 0

    def _grow(self, run: _Run, tokens: bytes, namespace: Namespace) -> None:
        if run in self._leaves and run.namespaces == namespace and len(run.edge) <= _APPEND_BYTES:
            run.edge += tokens  # a conversation stays one run, however many turns it has
            self._leaves.move_to_end(run)
        else:
            self._leaves.pop(run, None)
            child = run.children[tokens[:TOKEN_BYTES]] = _Run(run, tokens, namespace)
            self._leaves[child] = None
        self.num_tokens += len(tokens) // TOKEN_BYTES
        self._forget()

    def _split(self, run: _Run, cut: int) -> _Run:
        parent, edge, known = run.parent, run.edge, run.namespaces
        assert parent is not None
        upper = _Run(parent, edge[:cut], set(known) if isinstance(known, set) else known)
        parent.children[edge[:TOKEN_BYTES]] = upper
        run.parent, run.edge = upper, edge[cut:]
        upper.children[run.edge[:TOKEN_BYTES]] = run
        return upper

    def _forget(self) -> None:
        while self.num_tokens > self.limit and self._leaves:
            run, _ = self._leaves.popitem(last=False)
            parent = run.parent
            assert parent is not None
            del parent.children[run.edge[:TOKEN_BYTES]]
            self.num_tokens -= len(run.edge) // TOKEN_BYTES
            if not parent.children and parent.parent is not None:
                self._leaves[parent] = None
