"""Outputs that differ: by rounding, or because one is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from radixcache.engine import Engine, EngineConfig
from radixcache.engine.result import Completion, TokenLogprob
from radixcache.replay.compare import differing_requests
from radixcache.replay.examine import examine
from radixcache.replay.replay import replay
from radixcache.replay.results import DifferingRequest, RequestRecord
from radixcache.replay.rounding import rounding_bound
from radixcache.replay.settings import ReplaySettings
from radixcache.replay.target import ReplayTarget
from tests.replay.fake_engine import Bench, FakeEngine, request
from tests.tiny_models import reference, tiny

PREFIX = list(range(20))
REQUESTS = [request(i, [*PREFIX, 100 + i]) for i in range(4)]
SPREAD = 10.0
FLOAT32, BFLOAT16 = 64 * 2**-23 * SPREAD, 8 * 2**-7 * SPREAD


def differing(bench: Bench, **settings: Any) -> tuple[DifferingRequest, ...]:
    report = replay(REQUESTS, bench.target, ReplaySettings(**settings), logs=["log.jsonl"]).report
    return report.differing_requests


@pytest.mark.parametrize(
    ("dtype", "margin", "verdict"),
    [
        ("float32", 0.0, "rounding"),
        ("float32", 0.9 * FLOAT32, "rounding"),
        ("float32", 1.1 * FLOAT32, "wrong"),
        ("bfloat16", 1.1 * FLOAT32, "rounding"),
        ("bfloat16", 0.9 * BFLOAT16, "rounding"),
        ("bfloat16", 1.1 * BFLOAT16, "wrong"),
    ],
)
def test_the_margin_decides(dtype: str, margin: float, verdict: str) -> None:
    found = differing(Bench(drift=True, margin=margin, dtype=dtype))
    assert [d.index for d in found] == [1, 2, 3]
    for d in found:
        assert d.verdict == verdict
        assert d.margin == pytest.approx(margin)
        assert d.bound == pytest.approx(BFLOAT16 if dtype == "bfloat16" else FLOAT32)


def test_an_engine_with_the_cache_off_is_asked_for_what_both_outputs_share() -> None:
    bench = Bench(drift=True, delay_s=0.01)
    differing(bench, concurrency=2)
    assert [engine.cache for engine in bench.engines] == [False, False, True, False]
    assert all(engine.closed for engine in bench.engines)
    asked = bench.engines[-1]
    assert asked.most_in_flight == 2
    answers = [sum(r.tokens) % 1000 for r in REQUESTS]
    assert sorted(tokens for _, tokens, _, _ in asked.submitted) == [
        (*REQUESTS[i].tokens, answers[i]) for i in (1, 2, 3)
    ]
    assert {(p.max_tokens, p.temperature) for _, _, _, p in asked.submitted} == {(1, 0.0)}


def test_equal_outputs_ask_for_nothing() -> None:
    bench = Bench()
    assert differing(bench) == ()
    assert len(bench.engines) == 3


def test_questions_are_told_as_progress() -> None:
    told: list[tuple[str, int, int]] = []
    replay(
        REQUESTS,
        Bench(drift=True).target,
        ReplaySettings(),
        logs=[],
        on_progress=lambda *args: told.append(args),
    )
    assert told[-3:] == [("compare", done, 3) for done in (1, 2, 3)]


def test_a_question_that_fails_costs_its_verdict_alone() -> None:
    found = differing(Bench(drift=True, mute=True))
    assert [(d.index, d.margin, d.bound, d.verdict) for d in found] == [
        (i, None, None, None) for i in (1, 2, 3)
    ]


def test_an_engine_that_cannot_be_made_again_costs_the_verdicts_alone() -> None:
    bench = Bench(drift=True)

    def make(cache: bool) -> FakeEngine:
        if len(bench.engines) == 3:
            raise ValueError("the cache does not fit in the free memory of cpu")
        return bench.make_engine(cache)

    target = replace(bench.target, make_engine=make)
    report = replay(REQUESTS, target, ReplaySettings(), logs=[]).report
    assert [d.verdict for d in report.differing_requests] == [None] * 3


class Scripted:
    """Answers every question with the logprobs that it was given."""

    def __init__(self, top: Sequence[tuple[int, float]]) -> None:
        self._top = tuple(top)

    def submit(self, prompt: Sequence[int], params: object, *, namespace: str = "") -> Scripted:
        return self

    def result(self) -> Any:
        logprob = TokenLogprob(self._top[0][0] if self._top else 0, 0.0, self._top)
        return type("Result", (), {"completions": (Completion(0, "", (0,), "length", (logprob,)),)})

    def abort(self) -> None: ...


def judged(top: Sequence[tuple[int, float]]) -> DifferingRequest:
    asked = DifferingRequest(0, "log.jsonl", 1, 0, (5, 1), (6, 1))
    engine: Any = Scripted(top)
    (found,) = examine([asked], REQUESTS, {0: (5, 1)}, engine, dtype="bfloat16", kv_dtype="auto")
    return found


def test_both_tokens_must_be_near_the_likeliest() -> None:
    assert judged([(6, -1.0), (5, -1.1), (9, -11.0)]).verdict == "rounding"
    # Close to each other, but both are far from what the model would choose.
    found = judged([(7, 0.0), (6, -5.0), (5, -5.1), (9, -10.0)])
    assert (found.margin, found.verdict) == (5.1, "wrong")


def test_a_token_beyond_the_likeliest_is_wrong_without_a_margin() -> None:
    found = judged([(6, 0.0), (9, -10.0)])
    assert (found.margin, found.bound, found.verdict) == (None, BFLOAT16, "wrong")


@pytest.mark.parametrize("worst", [-math.inf, math.nan])
def test_logprobs_that_are_no_numbers_count_for_nothing(worst: float) -> None:
    found = judged([(6, 0.0), (5, -0.1), (9, -10.0), (3, worst)])
    assert (found.margin, found.bound, found.verdict) == (0.1, BFLOAT16, "rounding")
    assert judged([(5, worst), (6, worst)]).verdict is None
    assert judged([]).verdict is None


RECORD = RequestRecord("off", 0, "a", 1, None, "", 3, output_ids=(1, 2, 3), finish_reason="length")


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"output_ids": (1, 9, 3)}, None),
        ({"output_ids": (1, 2)}, "wrong"),
        ({"finish_reason": "stop"}, "wrong"),
        ({"output_ids": (1,), "finish_reason": "abort"}, "failed"),
        ({"output_ids": (), "finish_reason": None, "error": "refused"}, "failed"),
    ],
)
def test_verdicts_that_need_no_question(change: dict[str, Any], verdict: str | None) -> None:
    for off, on in ((RECORD, replace(RECORD, **change)), (replace(RECORD, **change), RECORD)):
        (found,) = differing_requests([off], [on])
        assert found.verdict == verdict


def test_bounds_grow_with_coarser_types_and_the_spread() -> None:
    bounds = [rounding_bound(d, "auto", 10.0) or 0.0 for d in ("float32", "float16", "bfloat16")]
    assert bounds == sorted(bounds)
    assert rounding_bound("bfloat16", "auto", 20.0) == 2 * bounds[2]
    assert rounding_bound("bfloat16", "bf16", 10.0) == bounds[2]
    assert rounding_bound("bfloat16", "fp16", 10.0) == bounds[2]
    assert rounding_bound("float32", "fp8", 10.0) == pytest.approx(64 * 2**-13 * 10)
    assert rounding_bound("float64", "auto", 10.0) is None
    assert rounding_bound("float32", "int2", 10.0) is None


def test_a_real_engine_gives_the_margins_of_its_model() -> None:
    config = EngineConfig(cache_tokens=1024)
    prompts = [request(i, [3 + i, 5, 7, 11], max_tokens=3) for i in range(3)]

    def make(cache: bool) -> Engine:
        return Engine(tiny("llama"), replace(config, cache=cache))

    target = ReplayTarget("tiny", "float32", "cpu", 16, 1024, None, make)
    off = replay(prompts, target, ReplaySettings(cache="off"), logs=[]).records
    outputs = {record.index: record.output_ids for record in off}
    on = [replace(r, output_ids=(r.output_ids[0], (r.output_ids[1] + 1) % 50, 0)) for r in off]
    with make(False) as engine:
        found = examine(
            differing_requests(off, on), prompts, outputs, engine, dtype="float32", kv_dtype="auto"
        )
    assert [d.index for d in found] == [0, 1, 2]
    for d, prompt in zip(found, prompts, strict=True):
        ids = torch.tensor([[*prompt.tokens, outputs[d.index][0]]])
        logits = reference("llama")(input_ids=ids).logits[0, -1].detach()
        assert d.token == 1
        assert d.margin == pytest.approx(float(logits.max() - logits[d.on[0]]), abs=1e-4)
        assert d.bound == pytest.approx(64 * 2**-23 * float(logits.max() - logits.min()), rel=1e-3)
        assert d.verdict == "wrong"
