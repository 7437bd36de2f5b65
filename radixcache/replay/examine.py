"""Tells outputs that differ by rounding from those that are wrong.

At the first token at which two outputs differ the model is asked again, with the cache off: after the prompt
and what both outputs share, how likely is each of the two tokens?
"""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from radixcache.engine.params import SamplingParams
from radixcache.replay.arrivals import closed_loop
from radixcache.replay.prepare import ReplayRequest
from radixcache.replay.protocols import EngineLike, HandleLike, ResultLike
from radixcache.replay.results import DifferingRequest
from radixcache.replay.rounding import rounding_bound

__all__ = ["LIKELIEST", "examine"]

LIKELIEST = 1000
"""Number of most likely tokens asked for; the spread of logits is from the first to the last of them."""


def examine(
    differing: Sequence[DifferingRequest],
    requests: Sequence[ReplayRequest],
    outputs: Mapping[int, Sequence[int]],
    engine: EngineLike,
    *,
    dtype: str,
    kv_dtype: str,
    concurrency: int = 1,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[DifferingRequest]:
    """Give margin, bound and verdict to those that have no verdict yet.

    A question that fails leaves its request without a verdict: the runs are over, and their report must not
    be lost by it.

    Args:
        differing: from `differing_requests`; greedy outputs.
        requests: all of the replay, by index.
        outputs: by index the output of either run, for what both share.
        engine: answers with its cache off.
        dtype, kv_dtype: as for `rounding_bound`.
        concurrency: questions asked at a time.
        on_progress: told how many are done, and of how many.
    """
    asked = [request for request in differing if request.verdict is None]
    found: dict[int, DifferingRequest] = {}
    lock = threading.Lock()

    def note(request: DifferingRequest, result: ResultLike | None) -> None:
        with lock:
            found[request.index] = request if result is None else _judged(request, result, dtype, kv_dtype)
            on_progress(len(found), len(asked))

    def start(request: DifferingRequest) -> HandleLike | None:
        prompt = requests[request.index]
        tokens = prompt.tokens + array("i", outputs[request.index][: request.token])
        params = SamplingParams(max_tokens=1, logprobs=LIKELIEST, ignore_eos=True)
        try:
            return engine.submit(tokens, params, namespace=prompt.namespace)
        except Exception:  # as said above
            note(request, None)
            return None

    def finish(request: DifferingRequest, handle: HandleLike) -> None:
        try:
            result = handle.result()
        except Exception:  # as said above
            result = None
        note(request, result)

    closed_loop(asked, start, finish, concurrency=concurrency)
    return [found.get(request.index, request) for request in differing]


def _judged(request: DifferingRequest, result: ResultLike, dtype: str, kv_dtype: str) -> DifferingRequest:
    logprobs = result.completions[0].logprobs
    top = logprobs[0].top if logprobs else ()
    known = {token: logprob for token, logprob in top if math.isfinite(logprob)}
    if not known:
        return request
    highest = max(known.values())
    bound = rounding_bound(dtype, kv_dtype, highest - min(known.values()))
    if bound is None:
        return request
    pair = [known[tokens[0]] for tokens in (request.off, request.on) if tokens[0] in known]
    if len(pair) < 2:
        return replace(request, bound=bound, verdict="wrong")
    margin = highest - min(pair)
    return replace(request, margin=margin, bound=bound, verdict="rounding" if margin <= bound else "wrong")
