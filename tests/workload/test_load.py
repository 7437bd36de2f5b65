"""From log lines to calls: namespaces, answers, what cannot be tokenised, order."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import LogError
from radixcache.logs import BadLine, LogRequest, read_logs
from radixcache.prompts.encode import EncodeError
from radixcache.sizes import parse_capacity, parse_count, parse_list
from radixcache.tokens import unpack
from radixcache.workload.load import load_workload
from radixcache.workload.order import arrange
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Workload
from tests.simulate.workloads import call


class Letters:
    """A tokenizer of letters."""

    def encode(self, request: LogRequest) -> array[int]:
        if request.prompt == "refused":
            raise EncodeError("the prompt has no tokens")
        return array("i", request.prompt_token_ids or map(ord, request.prompt or ""))

    def encode_answer(self, text: str) -> array[int]:
        return array("i", map(ord, text))


def load(tmp_path: Path, *records: Any, **options: Any) -> Workload:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return load_workload(read_logs([str(path)], strict=True), Letters, **options)


def test_fields_of_a_call(tmp_path: Path) -> None:
    record = {"prompt": "ab", "session": "s", "timestamp": 3, "tenant": "t", "output": "cd"}
    (made,) = load(tmp_path, record, namespace_by="tenant", answers=True).calls
    assert (unpack(made.units), made.prompt_tokens) == ([97, 98], 2)
    assert (unpack(made.output), made.output_tokens) == ([99, 100], 2)
    assert (made.namespace, made.session, made.timestamp, made.line) == ("t", "s", 3.0, 1)


def test_answers_are_only_tokenised_if_asked_for(tmp_path: Path) -> None:
    (made,) = load(tmp_path, {"prompt": "ab", "output": "cd", "output_tokens": 9}).calls
    assert (made.output, made.output_tokens) == (b"", 9)


def test_the_last_token_of_a_logged_answer_was_never_computed(tmp_path: Path) -> None:
    (made,) = load(tmp_path, {"prompt_token_ids": [1], "output_token_ids": [2, 3, 4]}).calls
    assert (unpack(made.output), made.output_tokens) == ([2, 3], 3)


def test_what_cannot_be_tokenised_is_a_bad_line(tmp_path: Path) -> None:
    bad: list[BadLine] = []
    records = [{"prompt": "refused"}, {"prompt": "ab"}]
    assert len(load(tmp_path, *records, on_bad_line=bad.append).calls) == 1
    assert [(b.line, b.reason) for b in bad] == [(1, "the prompt has no tokens")]
    with pytest.raises(LogError, match="line 1: the prompt has no tokens"):
        load(tmp_path, *records, strict=True)
    with pytest.raises(LogError, match="no request to simulate was found"):
        load(tmp_path, records[0])


def test_a_namespace_field_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no request has the field tenant"):
        load(tmp_path, {"prompt": "ab"}, namespace_by="tenant")


def test_repetitions_have_sessions_of_their_own() -> None:
    log = Workload(1, [call([1], session="a"), call([2], session="a"), call([3])])
    arranged = arrange(log, SimulateSettings(repeat=2, interleave=4)).calls
    assert [(unpack(c.units)[0], c.session) for c in arranged] == [
        (1, "a"),
        (3, None),
        (1, "a #2"),
        (3, None),
        (2, "a"),
        (2, "a #2"),
    ]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("1", 1),
        ("3000", 3000),
        ("10k", 10_000),
        ("1.5M", 1_500_000),
        ("0.5k", 500),
        ("12,000", 12_000),
        ("1_000", 1000),
        ("2g", 2 * 10**9),
        ("unbounded", None),
    ],
)
def test_capacities(text: str, blocks: int | None) -> None:
    assert parse_capacity(text) == blocks


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "k", "10kk", "3g", "1e3", "0.0001k"])
def test_bad_capacities_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="capacity must be "):
        parse_capacity(text)


def test_lists_and_counts() -> None:
    assert parse_list("policy", "lru, auto") == ["lru", "auto"]
    with pytest.raises(ValueError, match="policy must be values separated by commas, got 'lru,'"):
        parse_list("policy", "lru,")
    assert parse_count("block_size", "16") == 16
    for text in ("0", "x", "-1", "1.5"):
        with pytest.raises(ValueError, match="block_size must be"):
            parse_count("block_size", text)
