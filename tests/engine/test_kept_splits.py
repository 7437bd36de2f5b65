"""Splits kept from step to step give the same bits as splits gathered again, whatever happens between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends import LayerOptions
from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool

BLOCK_SIZE = 16
NUM_BLOCKS = 160
KV_HEADS, GROUP, HEAD_DIM = 2, 3, 8
LAYOUT = KVLayout.uniform(2, KV_HEADS, HEAD_DIM, BLOCK_SIZE, torch.float32)
CPU = torch.device("cpu")
LENGTHS = st.sampled_from([255, 256, 257, 300]) | st.integers(1, 600)


@dataclass(eq=False)
class Running:
    length: int = 0
    table: list[int] = field(default_factory=list)
    owned: list[int] = field(default_factory=list)


class Steps(RuleBasedStateMachine):
    """Sequences begin, share prefixes, decode in changing company and leave blocks to others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pool = PagedPool(LAYOUT, NUM_BLOCKS, CPU)
        self.backend = TorchBackend(self.pool)
        # Blocks that do not follow each other are gathered; others would be read in place.
        self.free = [*range(0, NUM_BLOCKS, 2), *range(1, NUM_BLOCKS, 2)]
        self.running: list[Running] = []

    def grow(self, sequence: Running, length: int) -> bool:
        needed = -(-length // BLOCK_SIZE) - len(sequence.table)
        if needed > len(self.free):
            return False
        fresh, self.free = self.free[:needed], self.free[needed:]
        if fresh:
            self.backend.clear(fresh)
        sequence.table += fresh
        sequence.owned += fresh
        return True

    def run(self, parts: list[tuple[Running, int]]) -> None:
        """One step: `count` new tokens for each sequence, in both layers, against a fresh backend."""
        rows = [SequenceRows([0] * count, item.length, item.table, 1) for item, count in parts]
        batch = StepBatch(rows, BLOCK_SIZE, device=CPU)
        fresh = TorchBackend(self.pool)
        self.backend.begin(batch)
        fresh.begin(batch)
        for layer in range(LAYOUT.num_layers):
            key, value = torch.randn(2, batch.num_rows, KV_HEADS, HEAD_DIM)
            query = torch.randn(batch.num_rows, KV_HEADS * GROUP, HEAD_DIM)
            self.backend.write(layer, key, value)
            options = LayerOptions(HEAD_DIM**-0.5)
            ours, theirs = (one.attend(layer, query, options).clone() for one in (self.backend, fresh))
            assert torch.equal(ours, theirs)
            assert torch.allclose(ours, self.plain(layer, query, parts), atol=2e-5)
        for item, count in parts:
            item.length += count

    def plain(self, layer: int, query: torch.Tensor, parts: list[tuple[Running, int]]) -> torch.Tensor:
        """Softmax attention written out, a row at a time."""
        out, row = [], 0
        for item, count in parts:
            keys, values = (
                storage[layer][item.table].flatten(0, 1).repeat_interleave(GROUP, dim=1)
                for storage in (self.pool.keys, self.pool.values)
            )
            for position in range(item.length, item.length + count):
                seen = slice(0, position + 1)
                scores = torch.einsum("hd,lhd->hl", query[row], keys[seen]) * HEAD_DIM**-0.5
                out.append(torch.einsum("hl,lhd->hd", scores.softmax(-1), values[seen]))
                row += 1
        return torch.stack(out)

    @precondition(lambda self: len(self.running) < 5)
    @rule(length=LENGTHS)
    def begin(self, length: int) -> None:
        sequence = Running()
        if self.grow(sequence, length):
            self.running.append(sequence)
            self.run([(sequence, length)])

    @precondition(lambda self: 0 < len(self.running) < 5)
    @rule(index=st.integers(0, 4), blocks=st.integers(1, 40), more=st.integers(1, 40))
    def begin_after_a_shared_prefix(self, index: int, blocks: int, more: int) -> None:
        parent = self.running[index % len(self.running)]
        shared = min(blocks, parent.length // BLOCK_SIZE)
        sequence = Running(shared * BLOCK_SIZE, parent.table[:shared])
        if self.grow(sequence, sequence.length + more):
            self.running.append(sequence)
            self.run([(sequence, more)])

    @precondition(lambda self: 0 < len(self.running) < 5)
    @rule(index=st.integers(0, 4), length=LENGTHS, more=st.integers(1, 3))
    def begin_after_a_copied_tail(self, index: int, length: int, more: int) -> None:
        parent = self.running[index % len(self.running)]
        length = min(length, parent.length)
        shared, tail = divmod(length, BLOCK_SIZE)
        sequence = Running(length, parent.table[:shared])
        if self.grow(sequence, length + more):
            if tail:
                self.backend.copy([BlockCopy(parent.table[shared], sequence.table[shared], tail)])
            self.running.append(sequence)
            self.run([(sequence, more)])

    @precondition(lambda self: self.running)
    @rule(steps=st.integers(1, 20), skipped=st.integers(0, 9))
    def decode(self, steps: int, skipped: int) -> None:
        for _ in range(steps):
            chosen = [item for number, item in enumerate(self.running) if number != skipped]
            parts = [(item, 1) for item in chosen if self.grow(item, item.length + 1)]
            if parts:
                self.run(parts)

    @precondition(lambda self: 0 < len(self.running) < 5)
    @rule(index=st.integers(0, 4), shared=st.integers(1, 3), turns=st.integers(1, 3))
    def take_turns_with_one_that_is_a_token_ahead(self, index: int, shared: int, turns: int) -> None:
        """Each step has one row, and its last split begins with the same blocks as the last step's."""
        parent = self.running[index % len(self.running)]
        shared = min(shared, parent.length // BLOCK_SIZE)
        twin = Running(shared * BLOCK_SIZE, parent.table[:shared])
        if not self.grow(twin, parent.length + 1):
            return
        self.running.append(twin)
        self.run([(twin, parent.length + 1 - twin.length)])
        for _ in range(turns):
            for one in (parent, twin):
                if self.grow(one, one.length + 1):
                    self.run([(one, 1)])

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 4))
    def finish(self, index: int) -> None:
        gone = self.running.pop(index % len(self.running))
        used = {block for item in self.running for block in item.table}
        heirs = [block for block in gone.owned if block in used]
        self.free = [block for block in gone.owned if block not in used] + self.free
        for item in self.running:
            if mine := [block for block in heirs if block in item.table]:
                item.owned += mine
                heirs = [block for block in heirs if block not in mine]


TestKeptSplits = Steps.TestCase
TestKeptSplits.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


def test_a_block_that_went_to_another_sequence_with_a_copied_tail_is_gathered_again() -> None:
    steps = Steps()
    steps.begin(length=300)
    steps.begin(length=260)
    steps.decode(steps=3, skipped=0)
    # The second ends with position 262 computed; a copy of the first goes on at 263 in its block.
    last = steps.running[1].table[-1]
    steps.finish(index=1)
    steps.free.sort(key=lambda block: block != last)
    steps.begin_after_a_copied_tail(index=0, length=263, more=1)


def test_a_sequence_that_shares_only_the_first_block_does_not_take_over_anothers_tail() -> None:
    steps = Steps()
    steps.begin(length=40)
    steps.take_turns_with_one_that_is_a_token_ahead(index=0, shared=1, turns=2)


def test_a_block_that_was_copied_into_is_gathered_again() -> None:
    steps = Steps()
    steps.begin(length=100)
    steps.begin(length=40)
    steps.decode(steps=2, skipped=9)
    first, second = steps.running
    steps.backend.copy([BlockCopy(first.table[1], second.table[1], BLOCK_SIZE)])
    steps.decode(steps=1, skipped=9)


def write_past_the_backend(steps: Steps) -> int:
    """Fill the first block of the only sequence from another pool, behind the backend's back."""
    other = PagedPool(LAYOUT, 1, CPU)
    for layer in range(LAYOUT.num_layers):
        other.write(layer, torch.arange(BLOCK_SIZE), *torch.randn(2, BLOCK_SIZE, KV_HEADS, HEAD_DIM))
    block = steps.running[0].table[0]
    steps.pool.load([block], other.export([0]))
    return block


@pytest.mark.parametrize("length", [40, 300], ids=["last split", "whole split"])
def test_a_block_that_was_written_from_outside_is_read_again_once_the_backend_is_told(length: int) -> None:
    steps = Steps()
    steps.begin(length=length)
    steps.decode(steps=2, skipped=9)
    block = write_past_the_backend(steps)
    steps.backend.renewed([block])
    steps.decode(steps=2, skipped=9)


@pytest.mark.parametrize("length", [40, 300], ids=["last split", "whole split"])
def test_a_backend_that_is_not_told_of_new_contents_goes_on_reading_the_old(length: int) -> None:
    steps = Steps()
    steps.begin(length=length)
    steps.decode(steps=2, skipped=9)
    write_past_the_backend(steps)
    with pytest.raises(AssertionError):
        steps.decode(steps=1, skipped=9)


def test_clearing_and_copying_tell_the_backend() -> None:
    heard: list[int] = []

    class Listening(TorchBackend):
        def renewed(self, blocks: Iterable[int]) -> None:
            heard.extend(blocks)
            super().renewed(blocks)

    backend = Listening(PagedPool(LAYOUT, 8, CPU))
    backend.clear([3, 5])
    backend.copy([BlockCopy(3, 1, 4), BlockCopy(5, 2, 16)])
    assert heard == [3, 5, 1, 2]


def test_a_layer_that_missed_a_step_is_gathered_again() -> None:
    steps = Steps()
    steps.begin(length=40)
    steps.decode(steps=1, skipped=9)
    (item,) = steps.running
    assert steps.grow(item, item.length + 1)
    batch = StepBatch([SequenceRows([0], item.length, item.table, 1)], BLOCK_SIZE, device=CPU)
    steps.backend.begin(batch)
    for layer in range(LAYOUT.num_layers):
        steps.backend.write(layer, *torch.randn(2, 1, KV_HEADS, HEAD_DIM))
    # Only the first layer attends, as when the step fails between the two.
    steps.backend.attend(0, torch.randn(1, KV_HEADS * GROUP, HEAD_DIM), LayerOptions(HEAD_DIM**-0.5))
    item.length += 1
    steps.decode(steps=1, skipped=9)
