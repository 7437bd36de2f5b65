"""An LRU prefix cache written down as its rule reads, and logs to hold against it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hypothesis import strategies as st

from radixcache.workload.workload import Call


def call(
    prompt: Sequence[int], *, namespace: str = "", prompt_tokens: int | None = None, line: int = 1
) -> Call:
    """A request without an answer."""
    return Call(
        namespace=namespace,
        units=array("i", prompt).tobytes(),
        prompt_tokens=len(prompt) if prompt_tokens is None else prompt_tokens,
        output=b"",
        output_tokens=0,
        session=None,
        timestamp=None,
        source="log",
        line=line,
    )


def plain_lru_hits(calls: Sequence[Call], block_units: int, capacity: int) -> list[int]:
    """Hit blocks of every request.

    Blocks are named by namespace and the whole prefix. A prompt's blocks are touched from its tail to its
    head, whatever was touched least recently leaves, and a block hits if those before it are there, too.
    """
    clock = 0
    touched: dict[tuple[str, bytes], int] = {}
    hits = []
    for request in calls:
        width = 4 * block_units
        ends = range(width, len(request.units) + 1, width)
        path = [(request.namespace, request.units[:end]) for end in ends]
        found = 0
        while found < len(path) and path[found] in touched:
            found += 1
        hits.append(found)
        for block in reversed(path):
            clock += 1
            touched[block] = clock
        for block in sorted(touched, key=touched.__getitem__)[: max(0, len(touched) - capacity)]:
            del touched[block]
    return hits


def logs(max_requests: int = 24) -> st.SearchStrategy[list[Call]]:
    """Logs whose prompts often begin alike: a piece of an earlier prompt and something new."""

    @st.composite
    def build(draw: st.DrawFn) -> list[Call]:
        calls: list[Call] = []
        prompts: list[list[int]] = [[]]
        for line in range(1, draw(st.integers(0, max_requests)) + 1):
            base = prompts[draw(st.integers(0, len(prompts) - 1))]
            kept = base[: draw(st.integers(0, len(base)))]
            prompt = kept + draw(st.lists(st.integers(0, 2), max_size=6))
            prompts.append(prompt)
            calls.append(call(prompt, namespace=draw(st.sampled_from(["", "b"])), line=line))
        return calls

    return build()
