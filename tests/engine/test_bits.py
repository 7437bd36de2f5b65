"""A row's logits are the same bits alone or in any batch, hit or miss, however it is chunked."""

from __future__ import annotations

import random

import pytest
import torch

from radixcache.engine.backends.torch import TorchBackend
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from tests import tiny_models

LENGTH = 700
NUM_BLOCKS = 600


def make_runner(name: str, block_size: int) -> ModelRunner:
    loaded = tiny_models.tiny(name)
    layout = KVLayout.of(loaded.model.config, block_size, loaded.dtype)
    pool = PagedPool(layout, NUM_BLOCKS * 16 // block_size, torch.device("cpu"))
    return ModelRunner(loaded, pool, TorchBackend(pool))


def random_cuts(rng: random.Random, length: int) -> list[int]:
    """Chunk lengths that add up to `length`, from single tokens to long stretches."""
    cuts: list[int] = []
    while length:
        count = min(length, rng.choice((1, 2, 3, 7, 16, 31, 100, 255, 256, 257, 400)))
        cuts.append(count)
        length -= count
    return cuts


class Table:
    """Random free blocks for one sequence."""

    def __init__(self, rng: random.Random, block_size: int, length: int, first: int, last: int) -> None:
        self.blocks = rng.sample(range(first, last), -(-length // block_size))


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_logits_do_not_depend_on_batch_chunks_or_cached_length(name: str) -> None:
    rng = random.Random(name)
    block_size = rng.choice((1, 8, 16, 32))
    runner = make_runner(name, block_size)
    total = NUM_BLOCKS * 16 // block_size
    prompt = [rng.randrange(tiny_models.VOCABULARY) for _ in range(LENGTH)]
    table = Table(rng, block_size, LENGTH, 0, total // 4).blocks
    alone = runner.forward([SequenceRows(prompt, 0, table, LENGTH)])

    for trial in range(4):
        other_table = Table(rng, block_size, LENGTH, total // 4, total // 2).blocks
        cached = rng.choice((0, 1, 255, 256, 300))
        if cached:
            # What a hit does: a prefix that another request computed, in its whole blocks.
            shared = cached // block_size
            other_table[:shared] = table[:shared]
            start = shared * block_size
        else:
            start = 0
        rows = []
        position = start
        for count in random_cuts(rng, LENGTH - start):
            parts = [SequenceRows(prompt[position : position + count], position, other_table, count)]
            before = 0
            for number in range(rng.randrange(4)):
                length = rng.choice((1, 5, 40, 300))
                first = total // 2 + number * (total // 8)
                neighbour = SequenceRows(
                    [rng.randrange(tiny_models.VOCABULARY) for _ in range(length)],
                    0,
                    Table(rng, block_size, length, first, first + total // 8).blocks,
                    1,
                )
                if rng.random() < 0.5:
                    parts.append(neighbour)
                else:
                    parts.insert(0, neighbour)
                    before += 1
            if position and rng.random() < 0.5:
                # A neighbour that shares the prefix and so is read together with ours.
                parts.append(SequenceRows([prompt[position]], position, other_table, 1))
            rows.append(runner.forward(parts)[before : before + count])
            position += count
        together = torch.cat(rows)
        assert torch.equal(together, alone[start:]), (
            f"trial {trial}, {(together - alone[start:]).abs().max()}"
        )


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
    for storage in (pool.key_storage, pool.value_storage):
        storage[:, :100] = torch.nan
    runner.prepare([3, 7], [])
    assert torch.equal(runner.forward([SequenceRows(prompt, 0, [3, 7], 1)]), clean)
