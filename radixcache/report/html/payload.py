"""All that a page shows, as one JSON value with nothing in it that has not been cleaned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from radixcache.replay.results import ReplayReport
from radixcache.report.equality import broken_promise, outcome, promise, verdict_of
from radixcache.report.html.clean import Cleaner
from radixcache.report.html.columns import columns_of_doctor, columns_of_records
from radixcache.report.html.read import Run
from radixcache.report.html.records import RequestLog
from radixcache.report.html.series import hit_rates_over_time, times_to_first_token

__all__ = ["make_payload"]

_MOST_CURVES = 8


def make_payload(runs: Sequence[Run], log: RequestLog, cleaner: Cleaner) -> dict[str, Any]:
    """Put together what the page's script draws.

    Returns:
        `redacted`; `reports`, of each run its `kind`, `name` and `data`, of a replay also `equality`, the
        sentences of `radixcache.report.equality`; `timelines` and `ttft` as in
        `radixcache.report.html.series`; `tables`, each with `title` and the columns of
        `radixcache.report.html.columns`.
    """
    tables = []
    reports = []
    for run in runs:
        report = run.report
        if run.kind == "doctor":
            table = columns_of_doctor(report.table, cleaner)
            tables.append({"title": _title("Requests of the doctor", run, runs, cleaner), **table})
        if run.kind == "curve":
            report = _largest_curves(report)
        data = {
            field.name: cleaner.value(getattr(report, field.name))
            for field in fields(report)
            if field.name != "table"
        }
        data["versions"] = cleaner.versions(report.versions)
        if run.kind == "replay":
            data["equality"] = _equality(report, cleaner)
        reports.append({"kind": run.kind, "name": cleaner.text(_file(run.name)), "data": data})
    records = columns_of_records(log, cleaner)
    if records is not None:
        tables.append({"title": "Requests of the runs" if tables else "Requests", **records})
    return {
        "redacted": cleaner.redact,
        "reports": reports,
        "timelines": hit_rates_over_time(log),
        "ttft": times_to_first_token(log),
        "tables": tables,
    }


def _equality(report: ReplayReport, cleaner: Cleaner) -> dict[str, Any]:
    """Sentences whose only text from outside is the engine's reason, cleaned alone so that the rest stays."""
    return {
        "promise": promise(report, cleaner.text),
        "outcome": "" if report.identical_outputs is None else outcome(report),
        "broken": broken_promise(report),
        "verdicts": [verdict_of(request) for request in report.differing_requests],
    }


def _title(title: str, run: Run, runs: Sequence[Run], cleaner: Cleaner) -> str:
    if sum(other.kind == run.kind for other in runs) == 1:
        return "Requests"
    return f"{title}, {cleaner.text(_file(run.name))}"


def _file(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _largest_curves(report: Any) -> Any:
    """Of a curve for each of many namespaces those of the most prompt tokens, as in the other drawings."""
    kept = sorted(report.curves, key=lambda curve: -curve.prompt_tokens)[:_MOST_CURVES]
    keys = {(curve.namespace, curve.block_size) for curve in kept}
    points = tuple(point for point in report.points if (point.namespace, point.block_size) in keys)
    return replace(report, curves=tuple(kept), points=points)
