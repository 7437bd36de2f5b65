"""Sums, percentiles and comparisons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.replay.compare import differing_requests
from radixcache.replay.results import Percentiles, RequestRecord, RunSummary, summarise

RECORD = RequestRecord(
    run="on",
    index=0,
    source="log.jsonl",
    line=1,
    session=None,
    namespace="",
    prompt_tokens=100,
    cached_tokens=60,
    misses={"diverged": 30, "evicted": 10},
    ttft_s=0.2,
    latency_s=0.5,
    output_ids=(1, 2, 3),
    finish_reason="length",
)


def summary_of(*records: RequestRecord) -> RunSummary:
    return summarise(
        "on",
        records,
        prefill_tokens=40,
        decode_tokens=3,
        wall_s=1.0,
        block_waste=0.1,
        control_share=0.01,
        preemptions=0,
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_numpys(values: list[float]) -> None:
    p = Percentiles.of(values)
    assert [p.p50, p.p90, p.p99] == pytest.approx(
        np.percentile(values, [50, 90, 99]).tolist(), rel=1e-9, abs=1e-9
    )


def test_percentiles_of_nothing_are_none() -> None:
    assert Percentiles.of([]) == Percentiles(None, None, None)


def test_summary_adds_up_answered_requests_and_counts_refused_ones() -> None:
    other = replace(RECORD, prompt_tokens=50, cached_tokens=0, misses={"diverged": 50}, ttft_s=0.4)
    refused = replace(RECORD, error="too long", ttft_s=None, latency_s=None, misses={}, cached_tokens=0)
    summary = summary_of(RECORD, other, refused)
    assert (summary.requests, summary.refused) == (2, 1)
    assert (summary.prompt_tokens, summary.cached_tokens) == (150, 60)
    assert summary.hit_rate == 0.4
    assert summary.missed_tokens == {"diverged": 80, "evicted": 10}
    assert list(summary.missed_tokens) == ["diverged", "evicted"]
    assert summary.cached_tokens + sum(summary.missed_tokens.values()) == summary.prompt_tokens
    assert summary.ttft_s.p50 == pytest.approx(0.3)


def test_summary_of_nothing() -> None:
    summary = summary_of()
    assert (summary.requests, summary.hit_rate, summary.ttft_s.p50) == (0, 0.0, None)


def test_equal_outputs_do_not_differ() -> None:
    assert differing_requests([RECORD], [replace(RECORD, run="on", ttft_s=9.0, cached_tokens=0)]) == []


@pytest.mark.parametrize(
    ("on", "token", "shown_off", "shown_on"),
    [
        ((1, 9, 3), 1, (2, 3), (9, 3)),
        ((1, 2), 2, (3,), ()),
        ((1, 2, 3, 4), 3, (), (4,)),
    ],
)
def test_first_difference_is_named(
    on: tuple[int, ...], token: int, shown_off: tuple[int, ...], shown_on: tuple[int, ...]
) -> None:
    (found,) = differing_requests([RECORD], [replace(RECORD, output_ids=on)])
    assert (found.token, found.off, found.on) == (token, shown_off, shown_on)


def test_another_finish_reason_is_a_difference() -> None:
    (found,) = differing_requests([RECORD], [replace(RECORD, finish_reason="stop")])
    assert found.token == 3


def test_answered_in_one_run_only_is_a_difference_and_in_neither_is_none() -> None:
    refused = replace(RECORD, output_ids=(), finish_reason=None, error="too long")
    assert len(differing_requests([refused], [RECORD])) == 1
    assert len(differing_requests([RECORD], [refused])) == 1
    assert differing_requests([refused], [refused]) == []
