"""examples/bring_your_own_engine.py: runs without torch, reuses right, and would notice if it did not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples import bring_your_own_engine as example
from radixcache import PrefixCache

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(example.NUM_BLOCKS, example.BLOCK_SIZE)


@pytest.fixture
def engine() -> example.ToyEngine:
    return example.ToyEngine(example.NUM_BLOCKS, example.BLOCK_SIZE)


def test_runs_as_a_script_and_imports_no_torch() -> None:
    code = (
        "import runpy, sys; runpy.run_path('examples/bring_your_own_engine.py', run_name='__main__');"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "every value read back was right" in done.stdout


def test_a_prompt_reuses_what_it_shares_to_the_token(
    cache: PrefixCache, engine: example.ToyEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    example.generate(cache, engine, example.FIRST, 5)
    before = engine.computed_tokens
    example.generate(cache, engine, example.SECOND, 0)
    shared = len(example.SYSTEM) + len("Customer: do you re")
    assert example.FIRST[:shared] == example.SECOND[:shared]
    assert example.FIRST[shared] != example.SECOND[shared]
    assert engine.computed_tokens - before == len(example.SECOND) - shared
    assert f"reused {shared} of {len(example.SECOND)} tokens" in capsys.readouterr().out


def test_a_follow_up_reuses_the_answer_too(cache: PrefixCache, engine: example.ToyEngine) -> None:
    answer = example.generate(cache, engine, example.FIRST, 20)
    before = engine.computed_tokens
    example.generate(cache, engine, example.FIRST + answer + "more", 0)
    assert engine.computed_tokens - before == len("more")


def test_answers_are_the_same_with_an_empty_cache_and_a_warm_one(
    cache: PrefixCache, engine: example.ToyEngine
) -> None:
    cold = example.generate(cache, engine, example.FIRST, 30)
    assert example.generate(cache, engine, example.FIRST, 30) == cold
    assert cache.stats().cached_tokens == len(example.FIRST) - 1


def test_forks_share_the_prompt_and_leave_no_lease_behind(
    cache: PrefixCache, engine: example.ToyEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = example.generate(cache, engine, example.FIRST, 20)
    before = engine.computed_tokens
    answers = example.sample(cache, engine, example.FIRST, 20, n=3)
    assert answers[0] == alone
    assert len(set(answers)) == 3
    assert engine.computed_tokens - before == 1 + 3 * 20
    per_branch = -(-(len(example.FIRST) + 20) // example.BLOCK_SIZE)
    whole = len(example.FIRST) // example.BLOCK_SIZE
    assert f"{whole + 3 * (per_branch - whole)} blocks instead of {3 * per_branch}" in capsys.readouterr().out
    assert cache.stats().leases == 0


def test_a_forgotten_copy_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example.ToyEngine, "_copy", lambda *_: None)
    with pytest.raises(AssertionError, match=r"position \d+ holds"):
        example.main()
