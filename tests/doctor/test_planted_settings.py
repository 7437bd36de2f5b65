"""Causes that lie in the cache and the way it is used, planted in synthetic logs of token ids."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from radixcache.doctor.diagnosis.schema import Diagnosis, Finding
from tests.doctor.planted import Record, adds_up, diagnose, missed, write

SHARED = list(range(1000, 1400))


def prompts(count: int, sessions: int = 4, seed: int = 0) -> list[Record]:
    """Sessions in turns, each turn 40 tokens longer than the one before; all begin alike."""
    seeded = random.Random(seed)
    so_far = {session: list(SHARED) for session in range(sessions)}
    log = []
    for place in range(count):
        session = place % sessions
        so_far[session] += [seeded.randrange(2000, 9000) for _ in range(40)]
        log.append(
            {
                "prompt_token_ids": list(so_far[session]),
                "session": f"s{session}",
                "timestamp": 1_000_000 + 10 * place,
            }
        )
    return log


def only(diagnosis: Diagnosis, kind: str) -> Finding:
    assert adds_up(diagnosis)
    (found,) = [finding for finding in diagnosis.findings if finding.kind == kind]
    return found


def test_a_healthy_log_has_no_findings(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "log", prompts(40)))
    assert adds_up(diagnosis)
    assert set(diagnosis.missed_tokens) <= {"never_seen", "diverged", "last_token"}
    assert diagnosis.findings == []


def test_capacity(tmp_path: Path) -> None:
    path = write(tmp_path / "log", prompts(60, sessions=12))
    diagnosis = diagnose(path, capacity=120)
    first = diagnosis.findings[0]
    assert first.kind == "capacity"
    assert first.tokens_lost == diagnosis.missed_tokens["evicted"]
    assert first.edit is not None
    room = int(first.edit.what_if.removeprefix("capacity:"))
    assert first.gain_tokens == missed(path, capacity=120) - missed(path, capacity=room) > 0
    # what the stack distances call enough evicts nothing that is used again
    assert diagnose(path, capacity=room).missed_tokens.get("evicted", 0) <= 16 * 60
    assert room < 1200


def test_policy(tmp_path: Path) -> None:
    """A loop just larger than the cache is the worst there is for LRU."""
    seeded = random.Random(3)
    texts = [[seeded.randrange(10, 9000) for _ in range(160)] for _ in range(12)]
    path = write(tmp_path / "log", [{"prompt_token_ids": texts[i % 12]} for i in range(600)])
    diagnosis = diagnose(path, capacity=100)
    found = only(diagnosis, "policy")
    assert found.edit is not None
    assert found.edit.what_if == "policy:auto"
    assert found.gain_tokens
    assert found.gain_tokens > 0.2 * diagnosis.missed_tokens["evicted"]


def test_namespaces(tmp_path: Path) -> None:
    path = write(tmp_path / "log", prompts(40))
    diagnosis = diagnose(path, namespace_by="session")
    found = only(diagnosis, "other_namespace")
    assert found.tokens_lost == 3 * len(SHARED)
    assert found.gain_tokens == missed(path, namespace_by="session") - missed(path) == 3 * len(SHARED)


@pytest.mark.parametrize("field", ["model", "adapter"])
def test_models_and_adapters_share_nothing(field: str, tmp_path: Path) -> None:
    log = [record | {field: "ab"[place // 20]} for place, record in enumerate(prompts(40))]
    diagnosis = diagnose(write(tmp_path / "log", log))
    found = only(diagnosis, "model_changed")
    assert found.gain_tokens is None
    plain = diagnose(write(tmp_path / "plain", prompts(40)))
    assert diagnosis.cached_tokens == plain.cached_tokens - found.tokens_lost
    assert diagnosis.missed_tokens.get("other_namespace", 0) == 0


def test_times_to_live(tmp_path: Path) -> None:
    log = prompts(40)
    for place, record in enumerate(log):
        record["timestamp"] += 1000 * (place // 20)
    path = write(tmp_path / "log", log)
    plain = diagnose(path)
    diagnosis = diagnose(path, ttl=500)
    found = only(diagnosis, "expired")
    # request 20 finds nothing left; the three after it find what all share, but not their own turns
    lengths = [len(record["prompt_token_ids"]) for record in log]
    assert found.tokens_lost == sum(lengths[16:20]) - 3 * len(SHARED)
    assert found.gain_tokens == found.tokens_lost == plain.cached_tokens - diagnosis.cached_tokens


def test_whole_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "log", prompts(40))
    diagnosis = diagnose(path, whole_blocks=True, block_size=64)
    found = only(diagnosis, "partial_block")
    assert found.tokens_lost == sum(row["cached"] % 64 for row in rows(diagnose(path, block_size=64)))
    smaller = diagnose(path, whole_blocks=True, block_size=16)
    assert found.gain_tokens == smaller.cached_tokens - diagnosis.cached_tokens > 0


def test_requests_that_come_too_soon(tmp_path: Path) -> None:
    log = [record | {"timestamp": 5.0 + place / 1000} for place, record in enumerate(prompts(8, sessions=8))]
    diagnosis = diagnose(write(tmp_path / "log", log), arrivals="timestamps", prefill_speed=1000.0)
    found = only(diagnosis, "not_yet_computed")
    assert found.tokens_lost == 7 * len(SHARED)
    assert found.prefill_s == found.tokens_lost / 1000


def test_prompts_larger_than_the_cache(tmp_path: Path) -> None:
    log = [*prompts(4), {"prompt_token_ids": list(range(4000))}, *prompts(4)]
    diagnosis = diagnose(write(tmp_path / "log", log), capacity=200)
    found = only(diagnosis, "too_large")
    assert (found.requests, found.tokens_lost) == (1, 4000)


def rows(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    names = {"cached_tokens": "cached"}
    columns = [names.get(name, name) for name in diagnosis.table.columns]
    return [dict(zip(columns, row, strict=True)) for row in diagnosis.table.rows()]


def test_the_table_adds_up(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "log", prompts(40)))
    table = rows(diagnosis)
    assert sum(row["cached"] for row in table) == diagnosis.cached_tokens
    assert sum(row["prompt_tokens"] for row in table) == diagnosis.prompt_tokens
    assert [row["line"] for row in table] == list(range(1, 41))
    assert [(row["cause"], row["earlier_line"]) for row in table[:2]] == [
        ("never_seen", None),
        ("diverged", 1),
    ]
    assert table[1]["token"] == len(SHARED)


def test_interleaving_changes_the_order_and_nothing_else(tmp_path: Path) -> None:
    log = sorted(prompts(40), key=lambda record: record["session"])
    path = write(tmp_path / "log", log)
    diagnosis = diagnose(path, interleave=4, capacity=150)
    assert diagnosis.prompt_tokens - diagnosis.cached_tokens == missed(path, capacity=150, interleave=4)
    assert adds_up(diagnosis)
    assert sorted(row["line"] for row in rows(diagnosis)) == list(range(1, 41))


def test_hash_traces(tmp_path: Path) -> None:
    seeded = random.Random(1)
    log = []
    for place in range(60):
        length = seeded.randrange(600, 5000)
        blocks = [7, 8, *(100 + 20 * (place % 9) + i for i in range(9))][: -(-length // 512)]
        log.append({"timestamp": place, "input_length": length, "output_length": 9, "hash_ids": blocks})
    path = write(tmp_path / "log", log)
    for capacity in (None, 20):
        diagnosis = diagnose(path, capacity=capacity)
        assert adds_up(diagnosis)
        assert diagnosis.prompt_tokens - diagnosis.cached_tokens == missed(path, capacity=capacity)
        assert diagnosis.settings["block_size"] == 512


def test_timeline_and_tree(tmp_path: Path) -> None:
    diagnosis = diagnose(write(tmp_path / "log", prompts(210)))
    assert len(diagnosis.timeline) == 105
    assert sum(bucket.cached_tokens for bucket in diagnosis.timeline) == diagnosis.cached_tokens
    nodes = diagnosis.tree.nodes
    (top,) = [node for node in nodes if node.parent == 0]
    assert (top.tokens, top.requests) == (len(SHARED), 210)
    assert top.reused_tokens == 209 * len(SHARED)
    assert sum(node.reused_tokens for node in nodes) == diagnosis.cached_tokens
    assert len(nodes) <= 1500


def test_a_wide_tree_is_folded(tmp_path: Path) -> None:
    log = [{"prompt_token_ids": [1, 2, 3, 100 + place, place % 7, 5]} for place in range(2500)]
    diagnosis = diagnose(write(tmp_path / "log", log))
    nodes = diagnosis.tree.nodes
    assert len(nodes) <= 1500
    assert sum(node.folded for node in nodes) > 1000
    assert sum(node.tokens for node in nodes) == 3 + 3 * 2500
