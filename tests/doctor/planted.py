"""Logs with a planted defect, and what the doctor and the simulator say of them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from radixcache.doctor.diagnosis.schema import Diagnosis
from radixcache.doctor.doctor import examine
from radixcache.doctor.log import LogSource
from radixcache.doctor.settings import DoctorSettings
from radixcache.logs import read_logs
from radixcache.models.tokenizing import load_tokenizer
from radixcache.prompts.encode import PromptEncoder
from radixcache.simulate.simulate import Caches, simulate
from radixcache.workload.load import load_workload
from radixcache.workload.settings import SimulateSettings

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

Record = dict[str, Any]


@cache
def tokenizer(name: str = "smollm2-135m") -> Any:
    return load_tokenizer(name)


class Source(LogSource):
    """A source whose tokenizer is loaded once for all tests."""

    def encoder(self) -> PromptEncoder:
        if self._encoder is None:
            name = self._named or "smollm2-135m"
            self._encoder = PromptEncoder(tokenizer(name), name)
        return self._encoder


def records(name: str, count: int, start: int = 0) -> list[Record]:
    path = DATA / f"{name}.jsonl.xz"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, start, start + count)]


def write(path: Path, log: Sequence[Record]) -> str:
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in log), encoding="utf-8"
    )
    return str(path)


def mapped(log: Sequence[Record], change: Callable[[int, Record], Record]) -> list[Record]:
    """Copies of records, changed one by one; what they hold is not shared with the originals."""
    return [change(place, json.loads(json.dumps(record))) for place, record in enumerate(log)]


def diagnose(path: str, model: str | None = None, **settings: Any) -> Diagnosis:
    return examine(Source([path], model), DoctorSettings(**settings)).diagnosis


def missed(path: str, *, capacity: int | None = None, **settings: Any) -> int:
    """Prompt tokens that had to be computed, by the simulator and the plain encoder."""
    workload = load_workload(
        read_logs([path], trace_block=512),
        lambda: PromptEncoder(tokenizer(), "smollm2-135m"),
        namespace_by=settings.get("namespace_by"),
        answers=settings.get("outputs", False),
    )
    outcome = simulate(workload, Caches(["lru"], [capacity]), SimulateSettings(**settings))
    (result,) = outcome.report.results
    return result.prompt_tokens - result.cached_tokens


def adds_up(diagnosis: Diagnosis) -> bool:
    return sum(diagnosis.missed_tokens.values()) == diagnosis.prompt_tokens - diagnosis.cached_tokens
