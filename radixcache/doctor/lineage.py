"""What was computed before, and by which request last: the other half of every miss."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import NamedTuple

from radixcache.cache.history import History, Seen, hold, let_go
from radixcache.cache.namespaces import Namespace
from radixcache.tokens import TOKEN_BYTES, common_prefix

__all__ = ["NOBODY", "Lineage", "Partner", "Stretch"]

NOBODY = -1


class Partner(NamedTuple):
    """Who a prompt has its longest known prefix from.

    Attributes:
        here: the last request that went that way in the same namespace; `NOBODY` if none did.
        elsewhere: in any namespace.
        namespaces: where that was seen.
    """

    here: int
    elsewhere: int
    namespaces: Collection[Namespace]


class Stretch:
    """An edge of the trie, with who passed it.

    Attributes:
        edge: its tokens, packed.
        depth: bytes before it.
        parent: the stretch before; None for the root and what left the trie.
        children: what follows, by first token; None for a leaf.
        namespaces: those it was seen in, and how many children or ends of sequences have each.
        last: the last request that passed its end, or ended there.
        onward: the last one that went on beyond its end.
        requests: how many passed its end, or ended there.
        reused: tokens of it that were reused, all requests together.
    """

    __slots__ = ("children", "depth", "edge", "last", "namespaces", "onward", "parent", "requests", "reused")

    def __init__(
        self, parent: Stretch | None, edge: bytes, depth: int, namespaces: dict[Namespace, int]
    ) -> None:
        self.parent = parent
        self.edge = edge
        self.depth = depth
        self.children: dict[bytes, Stretch] | None = None
        self.namespaces = namespaces
        self.last = NOBODY
        self.onward = NOBODY
        self.requests = 0
        self.reused = 0


class Lineage(History):
    """A `History` for a cache to explain its misses with, that also knows the requests.

    Before a sequence is added, `entering` and `entering_cached` say which request it is of and how many of
    its tokens were reused. The last look-up leaves its partner in `found`. The least recently used leaves
    are forgotten beyond `limit` tokens or `most_leaves` leaves, and where a namespace was seen beyond
    `most_leaves` ends of sequences.
    """

    def __init__(self, limit: int, most_leaves: int) -> None:
        super().__init__(limit)
        self.root = Stretch(None, b"", 0, {})
        self.found: Partner | None = None
        self.entering = NOBODY
        self.entering_cached = 0
        self._most_leaves = most_leaves
        self._order: OrderedDict[Stretch, None] = OrderedDict()
        self._last_ends: OrderedDict[tuple[Stretch, Namespace], None] = OrderedDict()  # the oldest first

    def lookup(self, query: bytes, namespace: Namespace) -> Seen:
        """How far `query` follows what was seen, in `namespace` and elsewhere; sets `found`."""
        at, pos, here = self.root, 0, 0
        whole_here: Stretch | None = None
        continues = False
        partner = elsewhere = NOBODY
        namespaces: Collection[Namespace] = ()
        while at.children and (child := at.children.get(query[pos : pos + TOKEN_BYTES])):
            edge = child.edge
            whole = query.startswith(edge, pos)
            pos += len(edge) if whole else common_prefix(query, edge, pos) * TOKEN_BYTES
            elsewhere = child.last
            namespaces = child.namespaces.keys()
            if namespace in child.namespaces:
                here, continues, whole_here = pos, not whole, child if whole else None
                partner = child.last
            if not whole:
                break
            at = child
        if whole_here is not None and whole_here.children:
            continues = any(namespace in child.namespaces for child in whole_here.children.values())
            if continues and whole_here.onward != NOBODY:
                partner = whole_here.onward
        if partner == NOBODY and not here and self.root.children:
            partner = self.root.onward  # nothing in common: the request before stands for what was there
        self.found = Partner(partner, elsewhere, namespaces)
        return Seen(here // TOKEN_BYTES, pos // TOKEN_BYTES, continues)

    def add(self, tokens: bytes, namespace: Namespace) -> None:
        """Remember a sequence of the request `entering`."""
        at, pos, end = self.root, 0, len(tokens)
        cached = self.entering_cached * TOKEN_BYTES
        passed: list[Stretch] = []
        while pos < end:
            at.onward = self.entering
            passed.append(at)
            child = (at.children or {}).get(tokens[pos : pos + TOKEN_BYTES])
            if child is None:
                child = self._grow_leaf(at, tokens[pos:], pos)
            elif not tokens.startswith(child.edge, pos):
                child = self._cut(child, common_prefix(tokens, child.edge, pos) * TOKEN_BYTES)
            child.last = self.entering
            child.requests += 1
            if cached > pos:
                child.reused += min(cached - pos, len(child.edge)) // TOKEN_BYTES
            pos += len(child.edge)
            at = child
        if at in self._order:
            self._order.move_to_end(at)
        self._end(at, namespace)
        for before in passed:  # what went on from there has its namespace
            if (before, namespace) in self._last_ends:
                del self._last_ends[before, namespace]
                let_go(before, namespace)
        self._drop()

    def path(self, query: bytes) -> Iterator[Stretch]:
        """The stretches that `query` follows, the last one perhaps in part."""
        at, pos = self.root, 0
        while at.children and (child := at.children.get(query[pos : pos + TOKEN_BYTES])):
            yield child
            if not query.startswith(child.edge, pos):
                return
            pos += len(child.edge)
            at = child

    def clear(self) -> None:
        """Forget everything."""
        self.root.children = None
        self._order.clear()
        self._last_ends.clear()
        self.num_tokens = 0

    def _end(self, at: Stretch, namespace: Namespace) -> None:
        if (at, namespace) in self._last_ends:
            self._last_ends.move_to_end((at, namespace))
        elif at is not self.root:
            self._last_ends[at, namespace] = None
            hold(at, namespace)

    def _grow_leaf(self, at: Stretch, tokens: bytes, depth: int) -> Stretch:
        self._order.pop(at, None)
        child = Stretch(at, tokens, depth, {})
        if at.children is None:
            at.children = {}
        at.children[tokens[:TOKEN_BYTES]] = child
        self._order[child] = None
        self.num_tokens += len(tokens) // TOKEN_BYTES
        return child

    def _cut(self, lower: Stretch, cut: int) -> Stretch:
        """The upper part of a stretch, now on its own."""
        parent, edge = lower.parent, lower.edge
        assert parent is not None
        assert parent.children is not None
        upper = Stretch(parent, edge[:cut], lower.depth, dict.fromkeys(lower.namespaces, 1))
        parent.children[edge[:TOKEN_BYTES]] = upper
        upper.last, upper.requests = lower.last, lower.requests
        upper.onward = lower.last
        # Where reuse ended inside the stretch is not kept; it is taken to have filled the head first.
        upper.reused = min(lower.reused, lower.requests * cut // TOKEN_BYTES)
        lower.reused -= upper.reused
        lower.parent, lower.edge, lower.depth = upper, edge[cut:], lower.depth + cut
        upper.children = {lower.edge[:TOKEN_BYTES]: lower}
        return upper

    def _drop(self) -> None:
        while len(self._last_ends) > self._most_leaves:
            let_go(*self._last_ends.popitem(last=False)[0])
        while self._order and (self.num_tokens > self.limit or len(self._order) > self._most_leaves):
            leaf, _ = self._order.popitem(last=False)
            parent = leaf.parent
            assert parent is not None
            assert parent.children is not None
            for namespace in leaf.namespaces:  # what was before it is still known to have been seen there
                self._last_ends.pop((leaf, namespace), None)
                if parent is not self.root and (parent, namespace) not in self._last_ends:
                    self._last_ends[parent, namespace] = None
                    self._last_ends.move_to_end((parent, namespace), last=False)
                elif parent is not self.root:
                    let_go(parent, namespace)
            del parent.children[leaf.edge[:TOKEN_BYTES]]
            leaf.parent = None
            self.num_tokens -= len(leaf.edge) // TOKEN_BYTES
            if not parent.children:
                parent.children = None
                if parent.parent is not None:
                    self._order[parent] = None
