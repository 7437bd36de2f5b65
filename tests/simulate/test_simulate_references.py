"""Published and reference hit rates of real logs and traces, to the last token."""

from __future__ import annotations

from pathlib import Path

import pytest

from radixcache.logs import read_logs
from radixcache.logs.folders import expand_folders
from radixcache.models.tokenizing import load_tokenizer
from radixcache.prompts.encode import PromptEncoder
from radixcache.simulate.results import SimulateResult
from radixcache.simulate.simulate import Caches, simulate
from radixcache.workload.load import load_workload
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Workload

pytestmark = pytest.mark.data


def encoder() -> PromptEncoder:
    return PromptEncoder(load_tokenizer("smollm2-135m"), "smollm2-135m")


def load(path: Path) -> Workload:
    return load_workload(read_logs(expand_folders([str(path)]), strict=True, trace_block=512), encoder)


def run(workload: Workload, *capacities: int | None) -> list[SimulateResult]:
    return list(simulate(workload, Caches(["lru"], capacities), SimulateSettings()).report.results)


def test_mooncake_conversation(shared_data: Path) -> None:
    found = run(load(shared_data / "mooncake_conversation.jsonl.xz"), 1_000, 10_000, 50_000, None)
    assert {r.prompt_tokens for r in found} == {144_793_823}
    assert [round(r.hit_rate_whole_blocks, 6) for r in found] == [0.045933, 0.219254, 0.363238, 0.373380]
    assert found[-1].cached_tokens_whole_blocks == 54_063_104
    assert all(abs(r.hit_rate - r.hit_rate_whole_blocks) < 0.005 for r in found)


def test_agent_sessions_whose_hashes_are_local(shared_data: Path) -> None:
    workload = load(shared_data / "weka")
    assert len(workload.calls) == 343
    assert len({call.namespace for call in workload.calls}) == 12
    (result,) = run(workload, None)
    assert result.prompt_tokens == 29_254_999
    assert result.cached_tokens_whole_blocks == 27_173_504


@pytest.mark.model
def test_a_coding_agent(shared_data: Path) -> None:
    found = run(load(shared_data / "miniswe.jsonl.xz"), 1_000, 10_000, 50_000, None)
    assert found[0].prompt_tokens == 2_967_441
    assert [round(r.hit_rate_whole_blocks, 6) for r in found] == [0.756876, 0.934796, 0.934796, 0.934796]
    assert round(found[-1].hit_rate, 6) == 0.935835


@pytest.mark.model
def test_one_shared_prefix(shared_data: Path) -> None:
    found = run(load(shared_data / "gsm8k_8shot.jsonl.xz"), 1_000, 10_000, 50_000, None)
    assert found[0].prompt_tokens == 1_821_125
    assert {round(r.hit_rate_whole_blocks, 6) for r in found} == {0.949532}
    assert round(found[-1].hit_rate, 6) == 0.953075


@pytest.mark.model
def test_fourteen_shared_prefixes(shared_data: Path) -> None:
    found = run(load(shared_data / "bbh_fewshot.jsonl.xz"), 1_000, 10_000, 50_000, None)
    assert found[0].prompt_tokens == 3_321_008
    assert [round(r.hit_rate_whole_blocks, 6) for r in found] == [0.912961, 0.913573, 0.913573, 0.913573]
    assert round(found[-1].hit_rate, 6) == 0.921410
