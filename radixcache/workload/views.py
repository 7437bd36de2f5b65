"""A workload as the cache is driven with it: token by token, or as the blocks of published hit rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from radixcache.tokens import TOKEN_BYTES, PackedTokens, pack
from radixcache.workload.references import References, read_references
from radixcache.workload.workload import Call, LoggedCalls

__all__ = ["Request", "block_view", "cut_to", "references_of", "token_view"]


class Request(NamedTuple):
    """What a cache is asked for one call.

    Attributes:
        call: where it comes from.
        namespace: the namespace it runs in.
        prompt: packed units; empty if it asks for nothing.
        output: packed units of the answer; empty if it is not to be cached.
    """

    call: Call
    namespace: str
    prompt: PackedTokens
    output: PackedTokens


def token_view(workload: LoggedCalls, *, outputs: bool) -> list[Request]:
    """Every unit of every prompt, as an engine hands it to its cache."""
    nothing = PackedTokens()
    return [
        Request(call, call.namespace, pack(call.units), pack(call.output) if outputs else nothing)
        for call in workload.calls
    ]


def block_view(
    workload: LoggedCalls, block_size: int, references: References, *, outputs: bool
) -> list[Request]:
    """Only whole blocks, each as one unit that stands for itself and all that comes before it.

    Args:
        workload: the calls.
        block_size: tokens in a block.
        references: the blocks of the calls, from `references_of` with the same arguments.
        outputs: the references go on after the prompt.
    """
    packed = references.ids.astype("<i4", copy=False).tobytes()
    requests = []
    start = 0
    for call, stop in zip(workload.calls, references.ends.tolist(), strict=True):
        middle = min(stop, start + call.prompt_tokens // block_size) if outputs else stop
        prompt, output = (
            PackedTokens(packed[a * TOKEN_BYTES : b * TOKEN_BYTES])
            for a, b in ((start, middle), (middle, stop))
        )
        requests.append(Request(call, "", prompt, output))
        start = stop
    return requests


def references_of(workload: LoggedCalls, block_size: int, *, outputs: bool) -> References:
    """The whole blocks of every prompt; with `outputs` those of prompt and answer."""
    calls: Sequence[Call] = workload.calls
    if outputs and workload.unit_tokens == 1:
        calls = [
            replace(
                call,
                units=call.units + call.output,
                prompt_tokens=call.prompt_tokens + len(call.output) // TOKEN_BYTES,
            )
            for call in calls
        ]
    return read_references(calls, block_size // workload.unit_tokens, workload.unit_tokens)


def cut_to(requests: Sequence[Request], units: int) -> list[Request]:
    """Prompts of at most `units` units; one that is cut loses its answer, too."""
    most = units * TOKEN_BYTES
    return [
        r
        if len(r.prompt) <= most
        else r._replace(prompt=PackedTokens(r.prompt[:most]), output=PackedTokens())
        for r in requests
    ]
