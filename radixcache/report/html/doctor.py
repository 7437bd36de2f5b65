"""The doctor's JSON, as it is read back: documented in docs/doctor-json.md."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from radixcache.doctor.diagnosis.schema import CAUSES, SCHEMA, Diagnosis, Finding, PrefixTree, TimelineBucket
from radixcache.doctor.diagnosis.table import RequestTable
from radixcache.pricing import PricingReport
from radixcache.report.html.clean import with_whole_characters
from radixcache.report.html.records import MOST_ROWS

__all__ = ["DoctorReport", "DoctorTable", "read_diagnosis", "upgraded"]

Cell = int | float | str | None


class Settings(TypedDict):
    """How the log was simulated."""

    tokenizer: str | None
    block_size: int
    capacity_blocks: int | None
    policy: str
    namespace_by: str | None
    interleave: int | None


class Point(TypedDict):
    """A capacity of the curve."""

    capacity_blocks: int
    hit_rate: float
    clairvoyant_hit_rate: float | None


class Money(TypedDict):
    """An amount of it."""

    currency: str
    amount: float


class WhatIf(TypedDict):
    """The log after edits."""

    edits: list[str]
    prompt_tokens: int
    cached_tokens: int
    hit_rate: float
    gain_tokens: int


@dataclass(frozen=True, slots=True)
class DoctorCurve:
    """The LRU hit rate by capacity; the knee is one of its points."""

    block_size: int
    points: Sequence[Point]
    knee: Point | None


@dataclass(frozen=True, slots=True)
class DoctorFinding(Finding):
    """A finding of which the money is known to be money."""

    money: Money | None = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class DoctorTable:
    """A row a request; `prompt_tokens` and `cached_tokens` are among the columns.

    Attributes:
        columns: their names.
        rows: a cell for each of them.
        total: how many rows there were, if these are only those that missed most.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: int | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "cached_tokens"):
            if name not in self.columns:
                raise ValueError(f"table.columns lacks {name}")
            place = self.columns.index(name)
            for number, row in enumerate(self.rows):
                if len(row) != len(self.columns):
                    raise ValueError(f"rows[{number}] has {len(row)} cells; {len(self.columns)} are needed")
                if not isinstance(row[place], int):
                    raise ValueError(f"rows[{number}]: {name} is {row[place]!r}; a whole number is needed")


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything that its --json holds; the fields are those of `Diagnosis`."""

    schema: str
    logs: Sequence[str]
    requests: int
    sessions: int
    bad_lines: int
    prompt_tokens: int
    cached_tokens: int
    hit_rate: float
    missed_tokens: dict[str, int]
    settings: Settings
    findings: Sequence[DoctorFinding]
    timeline: Sequence[TimelineBucket]
    curve: DoctorCurve | None
    tree: PrefixTree
    table: DoctorTable
    what_if: WhatIf | None
    pricing: PricingReport | None
    versions: dict[str, str]

    def __post_init__(self) -> None:
        for cause in self.missed_tokens:
            if cause not in CAUSES:
                raise ValueError(f"missed_tokens: {cause!r} is no cause; there are {', '.join(CAUSES)}")
        missed, caused = self.prompt_tokens - self.cached_tokens, sum(self.missed_tokens.values())
        if caused != missed or min(self.missed_tokens.values(), default=0) < 0:
            raise ValueError(f"missed_tokens: {caused} tokens have a cause, but {missed} were missed")


def upgraded(report: dict[str, Any]) -> dict[str, Any]:
    """A report of schema radixcache.doctor/1 as one of this version; fields that are wrong stay wrong."""
    found = dict(report, schema=SCHEMA)
    if isinstance(missed := found.get("missed_tokens"), dict):
        found["missed_tokens"] = {_renamed(cause): tokens for cause, tokens in missed.items()}
    table = found.get("table")
    if isinstance(table, dict) and isinstance(rows := table.get("rows"), list):
        rows = [[_renamed(cell) for cell in row] if isinstance(row, list) else row for row in rows]
        found["table"] = {**table, "rows": rows}
    nodes: list[Any] = []
    waiting: list[tuple[Any, int | None]] = [(found.get("tree"), None)]
    while waiting:
        node, parent = waiting.pop()
        if isinstance(node, dict):
            node = {"parent": parent, **node}
            children = node.pop("children", None)
            if isinstance(children, list):
                waiting += [(child, len(nodes)) for child in reversed(children)]
        nodes.append(node)
    return {**found, "tree": {"nodes": nodes}}


def _renamed(cause: Any) -> Any:
    return "never_seen" if cause == "first_sight" else cause


def read_diagnosis(diagnosis: Diagnosis) -> DoctorReport:
    """A diagnosis as if it had been written and read back; of a table too long for a page only a part."""
    fields: dict[str, Any] = {name: value for name, value in diagnosis.fields() if name != "table"}
    fields["table"] = _rows(diagnosis.table, len(diagnosis.table.order))
    return TypeAdapter(DoctorReport).validate_json(with_whole_characters(json.dumps(fields)), strict=True)


def _rows(table: RequestTable, total: int) -> dict[str, Any]:
    """All rows, or those of most missed tokens, without ever making the others at the same time."""
    columns = list(table.columns)
    if total <= MOST_ROWS:
        return {"columns": columns, "rows": list(table.rows())}
    prompt, cached = columns.index("prompt_tokens"), columns.index("cached_tokens")
    missed = array("q", (row[prompt] - row[cached] for row in table.rows()))
    kept = set(sorted(range(total), key=lambda place: -missed[place])[:MOST_ROWS])
    rows = [row for place, row in enumerate(table.rows()) if place in kept]
    return {"columns": columns, "rows": rows, "total": total}
