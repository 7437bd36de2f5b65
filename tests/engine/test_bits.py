"""A row's logits are the same bits alone or in any batch, hit or miss, however it is chunked."""

from __future__ import annotations

import random

import pytest
import torch

from radixcache.engine.step import SequenceRows
from tests import tiny_models
from tests.engine.company import compare_in_company, make_runner

LENGTH = 700


@pytest.mark.parametrize("name", [*tiny_models.NAMES, *tiny_models.GATED])
def test_logits_do_not_depend_on_batch_chunks_or_cached_length(name: str) -> None:
    found = compare_in_company(name)
    assert found.runner.batch_invariant, found.runner.variance
    assert found.rows > LENGTH
    assert found.differing == 0


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_logits_agree_with_transformers(name: str) -> None:
    rng = random.Random(name)
    runner = make_runner(name, 16)
    prompt = [rng.randrange(tiny_models.VOCABULARY) for _ in range(LENGTH)]
    ours = runner.forward([SequenceRows(prompt, 0, list(range(44)), LENGTH)])
    with torch.inference_mode():
        theirs = tiny_models.reference(name)(torch.tensor([prompt])).logits[0].float()
    spread = theirs.std()
    assert (ours - theirs).abs().max() < 2e-4 * spread
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


def test_stale_and_nan_slots_never_reach_the_output() -> None:
    runner = make_runner("llama", 16)
    pool = runner._pool
    prompt = list(range(10, 40))
    clean = runner.forward([SequenceRows(prompt, 0, [3, 7], 1)])
    for storage in pool.storages:
        storage[:, :100] = torch.nan
    runner.prepare([3, 7], [])
    assert torch.equal(runner.forward([SequenceRows(prompt, 0, [3, 7], 1)]), clean)
