"""examples/parallel_sampling.py: the prompt is computed once and its blocks are held once."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from examples import parallel_sampling as example
from radixcache import Engine, SamplingParams

PROMPT = "A slogan for a bicycle shop that repairs, rents and teaches: "
PARAMS = SamplingParams(n=3, max_tokens=40, temperature=1.0, seed=11, ignore_eos=True)


def test_continuations_hold_shared_blocks_once(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    result = example.sample(engine, PROMPT, PARAMS)
    assert len({completion.token_ids for completion in result.completions}) == 3
    assert [completion.finish_reason for completion in result.completions] == ["length"] * 3

    prompt = tuple(PROMPT.encode())
    size = engine.config.block_size
    computed = [prompt + completion.token_ids[:-1] for completion in result.completions]
    blocks = [sequence[: end + size] for sequence in computed for end in range(0, len(sequence), size)]
    printed = capsys.readouterr().out
    assert f"{len(prompt)} prompt tokens computed, {3 * len(prompt)} without forking" in printed
    assert f"{len(set(blocks))} blocks of {size} tokens hold them all, {len(blocks)} would" in printed
    assert len(blocks) - len(set(blocks)) >= 2 * (len(prompt) // size)


def test_seeds_give_the_same_continuations_again(engine: Engine) -> None:
    first, again = (example.sample(engine, PROMPT, PARAMS) for _ in range(2))
    assert [one.token_ids for one in first.completions] == [one.token_ids for one in again.completions]


def test_runs_as_a_program(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(model=str(model_folder), prompt=PROMPT, n=2, max_tokens=8, temperature=0.9, seed=1)
    printed = capsys.readouterr().out
    assert "[0] " in printed
    assert "[1] " in printed


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(typer.Exit) as stopped:
        example.main(model=missing, prompt=PROMPT, n=2, max_tokens=8, temperature=0.9, seed=1)
    assert stopped.value.exit_code == 2
    assert missing in capsys.readouterr().err
