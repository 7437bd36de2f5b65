"""The prompts of a log as one tree, and each prompt as the way through it.

Every prompt of the log is known beforehand, so the tree is built once, cut wherever prompts part or end.
Whatever a cache keeps or loses of a stretch between two cuts, it keeps or loses of all of it: a request uses
the whole stretch or none. So what is cached of n prompts is a state of at most 2 n stretches, however long
the prompts are, and the tokens themselves are needed only while the tree is built: unlike
`radixcache.cache.history.TokenTrie` it keeps none in memory, and reads them from the log's calls.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from radixcache.tokens import TOKEN_BYTES, common_prefix
from radixcache.workload.workload import Call, LoggedCalls

__all__ = ["PricedLog"]

_NO_TIME = float("nan")


class PricedLog:
    """A log without its tokens: lengths, times, and the tree of its prompts.

    Attributes:
        unit_tokens: as in `LoggedCalls`.
        prompt_tokens, output_tokens: of each call.
        timestamps: of each call, NaN where there is none.
        ends: the stretch with which each prompt ends; -1 for an empty prompt.
        depths: where each stretch ends, in units from the start of the prompt.
        parents: the stretch before each stretch, -1 for the first of a namespace.
    """

    def __init__(self, workload: LoggedCalls) -> None:
        """Reads every call once, in order, and some of them again: one at a time is in use."""
        self.unit_tokens = workload.unit_tokens
        self.prompt_tokens, self.output_tokens = array("q"), array("q")
        self.timestamps = array("d")
        self.ends = array("q")
        self.depths, self.parents = array("q"), array("q")
        self._last = array("q")  # a call that follows each stretch, the latest one
        self._starts: dict[tuple[str, int], int] = {}  # namespace and first unit -> stretch
        self._next: dict[int, int] = {}  # stretch and unit after it -> stretch
        for index, call in enumerate(workload.calls):
            self.prompt_tokens.append(call.prompt_tokens)
            self.output_tokens.append(call.output_tokens)
            self.timestamps.append(_NO_TIME if call.timestamp is None else call.timestamp)
            self.ends.append(self._add(index, call, workload.calls))

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, index: int) -> list[int]:
        """The stretches of a prompt, from its start to its end."""
        found = []
        at = self.ends[index]
        while at >= 0:
            found.append(at)
            at = self.parents[at]
        found.reverse()
        return found

    def tokens(self, stretch: int, index: int) -> int:
        """Tokens of a prompt up to the end of a stretch of it."""
        return min(self.depths[stretch] * self.unit_tokens, self.prompt_tokens[index])

    def _add(self, index: int, call: Call, calls: Sequence[Call]) -> int:
        units, namespace = call.units, call.namespace
        length = len(units) // TOKEN_BYTES
        at, pos = -1, 0
        beside, shared = b"", 0  # a prompt that went this way, and how far this one goes with it
        while pos < length:
            child = self._child(at, namespace, _unit(units, pos))
            if child is None:
                return self._grow(at, namespace, _unit(units, pos), length, index)
            if pos >= shared:
                beside = calls[self._last[child]].units
                shared = common_prefix(units, beside)
            # prompts that share the first unit of a stretch share it until they part or one of them ends, and
            # there it would have been cut: so `beside` follows all of this one
            if self.depths[child] > shared:
                child = self._cut(child, namespace, pos, shared, units, _unit(beside, shared))
            self._last[child] = index
            at, pos = child, self.depths[child]
        return at

    def _child(self, at: int, namespace: str, unit: int) -> int | None:
        return self._starts.get((namespace, unit)) if at < 0 else self._next.get(at << 31 | unit)

    def _link(self, at: int, namespace: str, unit: int, child: int) -> None:
        if at < 0:
            self._starts[namespace, unit] = child
        else:
            self._next[at << 31 | unit] = child

    def _grow(self, at: int, namespace: str, unit: int, depth: int, index: int) -> int:
        new = len(self.depths)
        self.depths.append(depth)
        self.parents.append(at)
        self._last.append(index)
        self._link(at, namespace, unit, new)
        return new

    def _cut(self, lower: int, namespace: str, start: int, depth: int, units: bytes, after: int) -> int:
        """The upper part of a stretch, now on its own; `after` is the unit with which the lower begins."""
        upper = self._grow(self.parents[lower], namespace, _unit(units, start), depth, self._last[lower])
        self.parents[lower] = upper
        self._next[upper << 31 | after] = lower
        return upper


def _unit(units: bytes, position: int) -> int:
    return int.from_bytes(units[position * TOKEN_BYTES : (position + 1) * TOKEN_BYTES], "little")
