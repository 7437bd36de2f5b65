"""Lines of `--requests-out`, as columns: one record is a row, and one run after the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from radixcache.replay.results import RequestRecord
from radixcache.report.html.clean import with_whole_characters
from radixcache.simulate.results import SimulatedRequest

__all__ = ["MOST_ROWS", "Record", "RequestLog", "read_requests", "run_name"]

MOST_ROWS = 200_000
"""A page with more rows would take too long to open; those that missed most are kept."""

Record = RequestRecord | SimulatedRequest


@dataclass(frozen=True, slots=True)
class RequestLog:
    """All records of some files.

    Attributes:
        names: the files.
        records: in the order of the files.
    """

    names: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def replayed(self) -> list[RequestRecord]:
        """Those of replays, which have times."""
        return [record for record in self.records if isinstance(record, RequestRecord)]


def read_requests(paths: Sequence[Path]) -> RequestLog:
    """Read records of replays and simulations, line by line.

    Raises:
        ValueError: naming the file, the line and the field that is wrong.
    """
    records: list[Record] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8") as lines:
                records.extend(_records(path, lines))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8 text: {error.reason}") from None
    return RequestLog(tuple(map(str, paths)), tuple(records))


def run_name(record: Record) -> str:
    """Which of several runs a record is of: `cache on`, or `lru, 1,000 blocks of 16`."""
    if isinstance(record, RequestRecord):
        return f"cache {record.run}"
    size = "unbounded" if record.capacity_blocks is None else f"{record.capacity_blocks:,} blocks"
    return f"{record.policy}, {size} of {record.block_size:,}"


def _records(path: Path, lines: Iterable[str]) -> Iterable[Record]:
    replayed, simulated = TypeAdapter(RequestRecord), TypeAdapter(SimulatedRequest)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            is_simulated = "policy" in json.loads(line)
            yield (simulated if is_simulated else replayed).validate_json(
                with_whole_characters(line), strict=True
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the record"
            raise ValueError(f"{path}:{number}: {field}: {first['msg']}") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}:{number}: is not a record of a request: {error}") from None
