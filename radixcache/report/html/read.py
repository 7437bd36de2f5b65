"""Reports and request records read back from the JSON that other commands wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from radixcache.errors import LogError
from radixcache.logs.source import open_log
from radixcache.report.html.clean import with_whole_characters

if TYPE_CHECKING:
    from radixcache.doctor.diagnosis.schema import Diagnosis

__all__ = ["Run", "diagnosis_run", "read_run"]

# Schema to the module and the dataclass that describe it.
_SCHEMAS = {
    "radixcache.replay/1": ("radixcache.replay.results", "ReplayReport"),
    "radixcache.simulate/1": ("radixcache.simulate.results", "SimulateReport"),
    "radixcache.curve/1": ("radixcache.curve.results", "CurveReport"),
    "radixcache.doctor/1": ("radixcache.report.html.doctor", "DoctorReport"),
    "radixcache.doctor/2": ("radixcache.report.html.doctor", "DoctorReport"),
}
_OLD_DIAGNOSIS = "radixcache.doctor/1"


@dataclass(frozen=True, slots=True)
class Run:
    """A report of one command.

    Attributes:
        kind: the command, `replay`, `simulate`, `curve` or `doctor`.
        name: the file that it came from.
        report: what it holds, as that command's dataclass.
    """

    kind: str
    name: str
    report: Any


def read_run(path: Path) -> Run:
    """Read what `--json` wrote, and check every field that the schema names.

    Raises:
        ValueError: naming the file and the field: it cannot be read, is no JSON, or is none of the reports.
    """
    try:
        with open_log(str(path)) as (file, _):
            text = file.read().decode("utf-8")
    except (OSError, LogError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {reason}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text at byte {error.start}") from None
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON: {error}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, str) or schema not in _SCHEMAS:
        known = ", ".join(_SCHEMAS)
        raise ValueError(f"{path}: schema is {schema!r}; one of {known} is needed")
    if schema == _OLD_DIAGNOSIS:
        from radixcache.report.html.doctor import upgraded

        data = upgraded(data)
        text = json.dumps(data)
    report = _checked(path, schema, text)
    _check_rates(path, data)
    return Run(schema.split(".")[1].split("/")[0], str(path), report)


def diagnosis_run(diagnosis: Diagnosis, name: str) -> Run:
    """What the doctor has just found, as if it had been written to a file of this name and read back."""
    from radixcache.report.html.doctor import read_diagnosis

    return Run("doctor", name, read_diagnosis(diagnosis))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _checked(path: Path, schema: str, text: str) -> Any:
    module, name = _SCHEMAS[schema]
    shape: Any = getattr(import_module(module), name)
    try:
        return TypeAdapter(shape).validate_json(with_whole_characters(text), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{path}: {_field(first['loc'])}: {_plain(first['msg'])}") from None


def _check_rates(path: Path, report: dict[str, Any]) -> None:
    """Refuse a hit rate that is not a share: bars and curves are drawn by it."""
    objects = [report]
    while objects:
        for name, value in objects.pop().items():
            if isinstance(value, dict):
                objects.append(value)
            elif isinstance(value, list):
                objects += [item for item in value if isinstance(item, dict)]
            elif "hit_rate" in name and value is not None and not 0 <= value <= 1:
                raise ValueError(f"{path}: {name} is {value}, not between 0 and 1")


def _field(place: Sequence[int | str]) -> str:
    parts: Iterator[str] = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).lstrip(".") or "the report"


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
