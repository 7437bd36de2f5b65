"""A diagnosis as JSON, its table written row by row: a log may have millions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from radixcache.files import writing

if TYPE_CHECKING:
    from radixcache.doctor.diagnosis.schema import Diagnosis

__all__ = ["write_diagnosis"]


def write_diagnosis(diagnosis: Diagnosis, path: Path) -> None:
    """Write what `diagnosis.to_json()` holds, as one JSON object.

    Raises:
        ValueError: naming the path, if it cannot be written.
    """
    with writing(path) as file:
        opening = "{\n"
        for name, value in diagnosis.fields():
            file.write(f"{opening}{json.dumps(name)}: ")
            opening = ",\n"
            if name != "table":
                json.dump(value, file, ensure_ascii=False, allow_nan=False)
                continue
            file.write(f'{{"columns": {json.dumps(list(value.columns))}, "rows": [')
            comma = "\n"
            for row in value.rows():
                file.write(comma + json.dumps(row, ensure_ascii=False, allow_nan=False))
                comma = ",\n"
            file.write("]}")
        file.write("\n}\n")
