"""A whole replay against an engine that stands in for ours."""

from __future__ import annotations

import pytest

from radixcache.replay.prepare import ReplayRequest
from radixcache.replay.replay import ReplayOutcome, replay
from radixcache.replay.settings import ReplaySettings
from tests.replay.fake_engine import FAILING_TOKEN, LONGEST, Bench, request

PREFIX = list(range(20))
REQUESTS = [request(i, [*PREFIX, 100 + i], session=f"s{i % 2}") for i in range(4)]


def run(requests: list[ReplayRequest], settings: ReplaySettings, bench: Bench | None = None) -> ReplayOutcome:
    return replay(requests, (bench or Bench()).target, settings, logs=["log.jsonl"], bad_lines=3)


def test_compare_runs_off_then_on_each_with_an_engine_of_its_own() -> None:
    bench = Bench()
    outcome = run(REQUESTS, ReplaySettings(cache="compare"), bench)
    warm_up, off, on = bench.engines
    assert (warm_up.cache, off.cache, on.cache) == (False, False, True)
    assert all(engine.closed for engine in bench.engines)
    assert len(warm_up.submitted) == 1
    assert [len(engine.submitted) for engine in (off, on)] == [4, 4]
    assert [r.cache for r in outcome.report.runs] == ["off", "on"]
    assert [(r.run, r.index) for r in outcome.records] == [
        (run, i) for run in ("off", "on") for i in range(4)
    ]


def test_report_of_a_comparison() -> None:
    report = run(REQUESTS, ReplaySettings(cache="compare")).report
    off, on = report.runs
    assert (report.requests, report.sessions, report.bad_lines) == (4, 2, 3)
    assert report.identical_outputs is True
    assert report.differing_requests == ()
    assert (off.prompt_tokens, off.cached_tokens, off.prefill_tokens) == (84, 0, 84)
    assert off.missed_tokens == {"cache_off": 84}
    assert (on.prompt_tokens, on.cached_tokens, on.prefill_tokens) == (84, 60, 24)
    assert on.missed_tokens == {"never_seen": 21, "diverged": 3}
    assert on.hit_rate == pytest.approx(60 / 84)
    assert on.decode_tokens == 8
    assert (on.block_waste, on.control_share) == (0.03, 0.005)
    assert on.ttft_s.p50 == pytest.approx(0.001)
    assert on.wall_s > 0
    assert report.versions["radixcache"]
    assert (report.model, report.dtype, report.device, report.block_size) == ("fake", "float32", "cpu", 16)


@pytest.mark.parametrize("cache", ["on", "off"])
def test_one_run_compares_nothing(cache: str) -> None:
    report = run(REQUESTS, ReplaySettings(cache=cache)).report  # type: ignore[arg-type]
    assert [r.cache for r in report.runs] == [cache]
    assert report.identical_outputs is None
    assert [r.batch_invariant for r in report.runs] == [True]


def test_outputs_that_differ_are_named() -> None:
    report = run(REQUESTS, ReplaySettings(), Bench(drift=True)).report
    assert report.identical_outputs is False
    assert [(d.index, d.line, d.token) for d in report.differing_requests] == [
        (1, 2, 1),
        (2, 3, 1),
        (3, 4, 1),
    ]
    assert [len(d.off) for d in report.differing_requests] == [1, 1, 1]


def test_records_tell_what_was_reused_and_why_not_more() -> None:
    records = run(REQUESTS, ReplaySettings(cache="on")).records
    assert [(r.cached_tokens, r.misses, r.diverged_at) for r in records[:2]] == [
        (0, {"never_seen": 21}, None),
        (20, {"diverged": 1}, 20),
    ]
    for record in records:
        assert record.cached_tokens + sum(record.misses.values()) == record.prompt_tokens
        assert record.output_ids == tuple((sum(REQUESTS[record.index].tokens) + i) % 1000 for i in range(2))
        assert record.finish_reason == "length"
        assert record.error is None


def test_namespaces_and_parameters_reach_the_engine() -> None:
    bench = Bench()
    requests = [request(0, PREFIX, namespace="a", max_tokens=5), request(1, PREFIX, namespace="b")]
    run(requests, ReplaySettings(cache="on", ignore_eos=True), bench)
    (_, _, first, params), (_, _, second, _) = bench.engines[1].submitted
    assert (first, second) == ("a", "b")
    assert (params.max_tokens, params.ignore_eos, params.temperature) == (5, True, 0.0)


def test_refused_requests_are_counted_and_the_run_goes_on() -> None:
    requests = [
        request(0, range(LONGEST)),
        request(1, [], error="the chat template of m refused the messages"),
        request(2, PREFIX),
    ]
    outcome = run(requests, ReplaySettings())
    for summary in outcome.report.runs:
        assert (summary.requests, summary.refused, summary.prompt_tokens) == (1, 2, 20)
    assert outcome.report.identical_outputs is True
    errors = [record.error for record in outcome.records[:3]]
    assert (
        errors[0]
        == f"{LONGEST + 2} tokens asked for (prompt and new tokens), but the model's context holds {LONGEST}"
    )
    assert errors[1] == "the chat template of m refused the messages"
    assert errors[2] is None
    assert outcome.records[0].prompt_tokens == LONGEST
    assert outcome.records[0].ttft_s is None


def test_all_refused_is_still_a_report() -> None:
    report = run([request(0, range(LONGEST))], ReplaySettings()).report
    assert [(r.requests, r.refused, r.hit_rate) for r in report.runs] == [(0, 1, 0.0)] * 2


def test_concurrency() -> None:
    bench = Bench(delay_s=0.01)
    requests = [request(i, [i, i + 1]) for i in range(9)]
    outcome = run(requests, ReplaySettings(cache="on", concurrency=3), bench)
    assert bench.engines[1].most_in_flight == 3
    assert [s[1] for s in bench.engines[1].submitted] == [(i, i + 1) for i in range(9)]
    assert [record.index for record in outcome.records] == list(range(9))


def test_arrivals_by_timestamp() -> None:
    bench = Bench()
    requests = [request(i, [i + 1], timestamp=1000.0 + 10 * i) for i in range(3)]
    run(requests, ReplaySettings(cache="on", arrivals="timestamps", speed=100), bench)
    times = [moment for moment, *_ in bench.engines[1].submitted]
    assert times[1] - times[0] == pytest.approx(0.1, abs=0.09)
    assert times[2] - times[0] >= 0.15


def test_engine_that_fails_is_closed_and_its_error_reaches_the_caller() -> None:
    bench = Bench()
    requests = [request(0, PREFIX), request(1, [FAILING_TOKEN])]
    with pytest.raises(RuntimeError, match="the device is gone"):
        run(requests, ReplaySettings(), bench)
    assert len(bench.engines) == 2
    assert all(engine.closed for engine in bench.engines)


def test_progress_reaches_the_total_in_each_run() -> None:
    told: list[tuple[str, int, int]] = []
    settings = ReplaySettings()
    replay(REQUESTS, Bench().target, settings, logs=[], on_progress=lambda *args: told.append(args))
    assert told == [(run, done, 4) for run in ("off", "on") for done in (0, 1, 2, 3, 4)]
