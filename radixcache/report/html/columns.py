"""The table of requests, column by column, so that a hundred thousand rows stay small and quick to sort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from radixcache.replay.results import RequestRecord
from radixcache.report.html.clean import Cleaner
from radixcache.report.html.doctor import DoctorTable
from radixcache.report.html.records import MOST_ROWS, Record, RequestLog, run_name

__all__ = ["columns_of_doctor", "columns_of_records"]

_LABELS = {
    "run": "Run",
    "source": "Log",
    "line": "Line",
    "session": "Session",
    "timestamp": "Time",
    "namespace": "Namespace",
    "prompt_tokens": "Prompt",
    "cached_tokens": "Cached",
    "missed_tokens": "Missed",
    "output_tokens": "Output",
    "cause": "Main cause",
    "part": "Parts in",
    "token": "at token",
    "earlier_source": "Earlier log",
    "earlier_line": "Earlier line",
    "ttft_s": "TTFT",
    "latency_s": "Latency",
    "error": "Error",
}
# Columns that say the same in every row are left out, but for these.
_ALWAYS = {"line", "prompt_tokens", "cached_tokens", "missed_tokens"}


def columns_of_records(log: RequestLog, cleaner: Cleaner) -> dict[str, Any] | None:
    """A row a record of each run; None without records."""
    if not log.records:
        return None
    total = len(log.records)
    records = _most_missed(log.records, lambda record: record.prompt_tokens - record.cached_tokens)
    fields: dict[str, list[Any]] = {
        "run": [run_name(record) for record in records],
        "source": [cleaner.text(record.source) for record in records],
        "line": [record.line for record in records],
        "session": [cleaner.text(record.session or "") for record in records],
        "prompt_tokens": [record.prompt_tokens for record in records],
        "cached_tokens": [record.cached_tokens for record in records],
        "missed_tokens": [record.prompt_tokens - record.cached_tokens for record in records],
        "cause": [cleaner.text(_main_cause(record)) for record in records],
        "ttft_s": [getattr(record, "ttft_s", None) for record in records],
        "latency_s": [getattr(record, "latency_s", None) for record in records],
        "error": [cleaner.text(getattr(record, "error", None) or "") for record in records],
    }
    return _table(fields, total)


def columns_of_doctor(table: DoctorTable, cleaner: Cleaner) -> dict[str, Any]:
    """The doctor's own table, with the tokens missed put after those cached."""
    names, total = list(table.columns), table.total or len(table.rows)
    prompt, cached = names.index("prompt_tokens"), names.index("cached_tokens")
    rows: list[Any] = _most_missed(table.rows, lambda row: row[prompt] - row[cached])
    fields: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        fields[cleaner.text(name)] = [
            cleaner.text(row[place]) if isinstance(row[place], str) else row[place] for row in rows
        ]
        if place == max(prompt, cached):
            fields["missed_tokens"] = [row[prompt] - row[cached] for row in rows]
    if len(set(fields.get("source", ()))) == 1:
        fields.pop("earlier_source", None)
    return _table(fields, total)


def _most_missed(rows: Sequence[Any], missed: Callable[[Any], int]) -> list[Any]:
    if len(rows) <= MOST_ROWS:
        return list(rows)
    places = sorted(range(len(rows)), key=lambda place: -missed(rows[place]))[:MOST_ROWS]
    return [rows[place] for place in sorted(places)]


def _main_cause(record: Record) -> str:
    if isinstance(record, RequestRecord):
        return max(record.misses.items(), key=lambda item: item[1], default=("", 0))[0]
    return "too_large" if record.too_large else ""


def _table(fields: dict[str, list[Any]], total: int) -> dict[str, Any]:
    columns = [
        _column(name, values)
        for name, values in fields.items()
        if name in _ALWAYS or len(set(values)) > 1 or not values
    ]
    return {"columns": columns, "rows": len(fields["prompt_tokens"]), "total": total}


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    """Numbers as they are; texts as codes into a list of different ones, with null as the empty text."""
    label = _LABELS.get(name, name.replace("_", " "))
    if all(value is None or isinstance(value, int | float) for value in values):
        kind = "seconds" if name.endswith("_s") else "time" if name == "timestamp" else "number"
        return {"name": name, "label": label, "kind": kind, "values": values}
    codes: dict[str, int] = {}
    coded = [codes.setdefault("" if value is None else str(value), len(codes)) for value in values]
    return {"name": name, "label": label, "kind": "text", "texts": list(codes), "values": coded}
