"""What a page holds of single requests: columns, buckets and distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radixcache.replay.results import RequestRecord
from radixcache.report.html import columns
from radixcache.report.html.clean import Cleaner
from radixcache.report.html.columns import columns_of_doctor, columns_of_records
from radixcache.report.html.doctor import DoctorTable
from radixcache.report.html.records import RequestLog, read_requests
from radixcache.report.html.series import hit_rates_over_time, times_to_first_token
from radixcache.simulate.results import SimulatedRequest
from tests.report import pages

PLAIN = Cleaner(redact=False)


def record(index: int, run: str = "on", **more: Any) -> RequestRecord:
    own = RequestRecord(run, index, "log.jsonl", index + 1, None, "", 100, 10 * index % 100)
    return replace(own, **more)


def simulated(index: int, policy: str, capacity: int | None) -> SimulatedRequest:
    return SimulatedRequest(
        policy, capacity, 16, index, "t.jsonl", 1, None, "", 100, 20, 16, too_large=index == 1
    )


def column(table: dict[str, Any] | None, name: str) -> list[Any]:
    assert table is not None
    (found,) = (c for c in table["columns"] if c["name"] == name)
    values: list[Any] = found["values"]
    return [found["texts"][value] for value in values] if found["kind"] == "text" else values


def names(table: dict[str, Any] | None) -> list[str]:
    assert table is not None
    return [c["name"] for c in table["columns"]]


def test_records_become_columns_and_those_that_say_nothing_are_left_out() -> None:
    log = RequestLog((), (record(0, session="a"), record(1, misses={"evicted": 60, "diverged": 30})))
    table = columns_of_records(log, PLAIN)
    assert names(table) == ["line", "session", "prompt_tokens", "cached_tokens", "missed_tokens", "cause"]
    assert column(table, "missed_tokens") == [100, 90]
    assert column(table, "session") == ["a", ""]
    assert column(table, "cause") == ["", "evicted"]


def test_runs_are_told_apart() -> None:
    log = RequestLog(
        (), (record(0, "off"), record(0, "on"), simulated(0, "lru", 1000), simulated(1, "lru", None))
    )
    table = columns_of_records(log, PLAIN)
    runs = ["cache off", "cache on", "lru, 1,000 blocks of 16", "lru, unbounded of 16"]
    assert column(table, "run") == runs
    assert column(table, "cause") == ["", "", "", "too_large"]


def test_no_records_no_table() -> None:
    empty = RequestLog((), ())
    assert columns_of_records(empty, PLAIN) is None
    assert hit_rates_over_time(empty) == []
    assert times_to_first_token(empty) is None


def test_of_too_many_rows_those_that_missed_most_are_kept_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_ROWS", 3)
    rows = [(line, 100, cached) for line, cached in enumerate((50, 10, 90, 0, 20))]
    table = columns_of_doctor(DoctorTable(("line", "prompt_tokens", "cached_tokens"), rows), PLAIN)
    assert (table["rows"], table["total"]) == (3, 5)
    assert column(table, "line") == [1, 3, 4]
    assert column(table, "missed_tokens") == [90, 100, 80]


def test_buckets_add_up_and_leave_the_uncached_run_out() -> None:
    records = [record(index, run) for run in ("off", "on") for index in range(450)]
    ((run, buckets),) = (tuple(line.values()) for line in hit_rates_over_time(RequestLog((), tuple(records))))
    assert run == "cache on"
    assert len(buckets) == 150
    assert [b["request"] for b in buckets] == list(range(0, 450, 3))
    assert sum(b["prompt_tokens"] for b in buckets) == 45_000
    assert sum(b["cached_tokens"] for b in buckets) == sum(10 * i % 100 for i in range(450))


def test_shares_of_first_tokens_add_up_to_one() -> None:
    times = {"off": [0.5, 1.0, 2.0, 2.0], "on": [0.01, 0.02, 0.5]}
    records = [
        record(index, run, ttft_s=seconds)
        for run, all_seconds in times.items()
        for index, seconds in enumerate(all_seconds)
    ]
    found = times_to_first_token(RequestLog((), (*records, record(9))))
    assert found is not None
    assert (found["edges"][0], found["edges"][-1]) == (0.01, 2.0)
    assert [(run["run"], run["requests"]) for run in found["runs"]] == [("off", 4), ("on", 3)]
    assert all(sum(run["shares"]) == pytest.approx(1.0) for run in found["runs"])
    assert found["runs"][0]["shares"][-1] == 0.5


def test_one_time_alone_still_has_bins() -> None:
    found = times_to_first_token(RequestLog((), (record(0, ttft_s=0.25),)))
    assert found is not None
    assert sum(found["runs"][0]["shares"]) == 1.0


def test_records_read_back_as_they_were(tmp_path: Path) -> None:
    _, records = pages.replay(4)
    log = read_requests([pages.save_records(records, tmp_path / "r.jsonl")])
    assert [r.index for r in log.replayed] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert log.replayed[1] == RequestRecord(**{**records[1], "output_ids": tuple(records[1]["output_ids"])})
