"""Small workloads for tests."""

from __future__ import annotations

from collections.abc import Sequence

from radixcache.tokens import pack
from radixcache.workload.workload import Call, Workload


def call(
    tokens: Sequence[int],
    *,
    output: Sequence[int] = (),
    namespace: str = "",
    session: str | None = None,
    timestamp: float | None = None,
    line: int = 1,
) -> Call:
    """One request of token ids."""
    return Call(
        namespace=namespace,
        units=pack(list(tokens)),
        prompt_tokens=len(tokens),
        output=pack(list(output)),
        output_tokens=len(output),
        session=session,
        timestamp=timestamp,
        source="log",
        line=line,
    )


def workload(*prompts: Sequence[int]) -> Workload:
    """Prompts of token ids, one after another."""
    return Workload(1, [call(prompt, line=i) for i, prompt in enumerate(prompts, start=1)])


def trace(unit_tokens: int, *prompts: tuple[Sequence[int], int]) -> Workload:
    """Prompts as ids of blocks, each with its length in tokens."""
    calls = []
    for line, (units, tokens) in enumerate(prompts, start=1):
        made = call(units, line=line)
        calls.append(
            Call("", made.units, tokens, b"", 0, made.session, made.timestamp, made.source, made.line)
        )
    return Workload(unit_tokens, calls)
