"""A prompt computed alone, and again in chunks, batches and after hits."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from tests import tiny_models

NUM_BLOCKS = 600
_COUNTS = (1, 2, 3, 7, 16, 31, 100, 255, 256, 257, 400)


@dataclass
class Comparison:
    """Rows whose logits were compared with the same rows alone, and how many differed in any bit."""

    runner: ModelRunner
    rows: int = 0
    differing: int = 0


def make_runner(
    name: str, block_size: int, dtype: torch.dtype = torch.float32, kv_dtype: str = "auto"
) -> ModelRunner:
    """A runner of a tiny model over a pool of `NUM_BLOCKS` x 16 tokens."""
    loaded = tiny_models.tiny(name, dtype=dtype)
    layout = KVLayout.of(loaded.model.config, block_size, loaded.dtype, kv_dtype)
    pool = PagedPool(layout, NUM_BLOCKS * 16 // block_size, torch.device("cpu"))
    return ModelRunner(loaded, pool, TorchBackend(pool))


def random_cuts(rng: random.Random, length: int) -> list[int]:
    """Chunk lengths that add up to `length`, from single tokens to long stretches."""
    cuts: list[int] = []
    while length:
        cuts.append(min(length, rng.choice(_COUNTS)))
        length -= cuts[-1]
    return cuts


def random_table(rng: random.Random, block_size: int, length: int, first: int, last: int) -> list[int]:
    """Blocks for `length` tokens out of `first` to `last`, scattered or one after the other."""
    count = -(-length // block_size)
    if rng.random() < 0.3:
        start = rng.randrange(first, last - count + 1)
        return list(range(start, start + count))
    return rng.sample(range(first, last), count)


def compare_in_company(
    name: str,
    dtype: torch.dtype = torch.float32,
    kv_dtype: str = "auto",
    *,
    length: int = 700,
    trials: int = 4,
    seed: object = 0,
) -> Comparison:
    """Compute a random prompt alone, then `trials` times cut, cached and accompanied at random."""
    rng = random.Random(f"{name}/{seed}")
    block_size = rng.choice((1, 8, 16, 32))
    runner = make_runner(name, block_size, dtype, kv_dtype)
    found = Comparison(runner)
    total = NUM_BLOCKS * 16 // block_size
    prompt = [rng.randrange(tiny_models.VOCABULARY) for _ in range(length)]
    table = random_table(rng, block_size, length, 0, total // 4)
    alone = runner.forward([SequenceRows(prompt, 0, table, length)]).clone()
    for _ in range(trials):
        other_table = random_table(rng, block_size, length, total // 4, total // 2)
        # What a hit does: a prefix that another request computed, in its whole blocks.
        shared = rng.choice((0, 1, 255, 256, 300)) // block_size
        other_table[:shared] = table[:shared]
        position = shared * block_size
        for count in random_cuts(rng, length - position):
            parts = [SequenceRows(prompt[position : position + count], position, other_table, count)]
            before = 0
            for number in range(rng.randrange(4)):
                theirs = rng.choice((1, 5, 40, 300))
                first = total // 2 + number * (total // 8)
                neighbour = SequenceRows(
                    [rng.randrange(tiny_models.VOCABULARY) for _ in range(theirs)],
                    0,
                    random_table(rng, block_size, theirs, first, first + total // 8),
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
            rows = runner.forward(parts)[before : before + count]
            found.rows += count
            found.differing += int((rows != alone[position : position + count]).any(-1).sum())
            position += count
    return found
