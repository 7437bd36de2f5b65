"""How often each part of a node was used."""

from __future__ import annotations


class NodeUse:
    """What is known of a node: how often it was used, when last and by how long a request; where it waits.

    A node grows turn by turn, so its tail was used less often than its head: part `i` begins at block
    `starts[i]` of the prompt and was used `uses[i]` times, and the last one ends before block `end`.

    Attributes:
        last: the request that used it last, by number.
        length: blocks of that request.
        bin: the class and range of age it waits in, if it does.
    """

    __slots__ = ("bin", "end", "last", "length", "starts", "uses")

    def __init__(self, start: int, last: int, length: int) -> None:
        self.starts: list[int] = []
        self.uses: list[int] = []
        self.end = start
        self.last = last
        self.length = length
        self.bin: tuple[int, int] | None = None

    def again(self, now: int, length: int) -> None:
        """Request `now`, of `length` blocks, used all of it."""
        self.uses = [uses + 1 for uses in self.uses]
        self.last = now
        self.length = length

    def grow(self, end: int, sampled: list[tuple[int, int]]) -> None:
        """The node ends before block `end` now; what is new was used as often as sampled places say.

        Nothing is used less often than what follows it.  Without a sample it is taken to be new.
        """
        at = self.end
        uses = 1
        for place, known in sampled:
            if at <= place < end:
                self._part(at, known)
                at, uses = place + 1, known
        if at < end:
            self._part(at, uses)
        self.end = end

    def cut(self, end: int) -> None:
        """The node ends before block `end` now, if not earlier."""
        self.end = min(self.end, end)
        while len(self.starts) > 1 and self.starts[-1] >= end:
            self.starts.pop()
            self.uses.pop()

    def split(self, at: int) -> NodeUse:
        """The head before block `at`, cut off; what follows stays here."""
        head = NodeUse(self.end, self.last, self.length)
        head.starts, head.uses = self.starts[:], self.uses[:]
        head.cut(at)
        while len(self.starts) > 1 and self.starts[1] <= at:
            del self.starts[0], self.uses[0]
        return head

    def _part(self, start: int, uses: int) -> None:
        if not self.uses or self.uses[-1] != uses:
            self.starts.append(start)
            self.uses.append(uses)
