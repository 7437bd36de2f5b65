"""Results as JSON; the fields are those of the dataclasses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from radixcache.files import writing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["write_report", "write_requests"]


def write_report(report: DataclassInstance, path: Path) -> None:
    """Write a report as one JSON object.

    Raises:
        ValueError: naming the path, if it cannot be written.
    """
    with writing(path) as file:
        json.dump(asdict(report), file, indent=2, allow_nan=False)
        file.write("\n")


def write_requests(records: Iterable[DataclassInstance], path: Path) -> None:
    """Write one line of JSON for each record.

    Raises:
        ValueError: naming the path, if it cannot be written.
    """
    with writing(path) as file:
        for record in records:
            file.write(json.dumps(asdict(record), allow_nan=False) + "\n")
