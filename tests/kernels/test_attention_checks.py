"""What paged_attention refuses, and how it says so."""

from dataclasses import replace

import pytest
import torch
from kernel_batches import Batch, make_batch

from radixcache_kernels import KernelInputError, checks, paged_attention


@pytest.fixture
def batch(device: torch.device) -> Batch:
    return make_batch([40, 20], [2, 1], heads=2, kv_heads=1, device=device)


def with_entry(batch: Batch, sequence: int, entry: int, block: int) -> Batch:
    tables = batch.block_tables.clone()
    tables[sequence, entry] = block
    return replace(batch, block_tables=tables)


@pytest.mark.parametrize("block", [-1, 7, 1 << 30])
def test_a_block_id_out_of_range_is_named(batch: Batch, block: int) -> None:
    assert batch.k_pool.shape[0] == 7
    with pytest.raises(
        KernelInputError, match=rf"sequence 1, table entry 1: block id {block} is outside 0\.\.6"
    ):
        with_entry(batch, 1, 1, block).run()


def test_the_environment_switches_the_debug_mode_on(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIXCACHE_DEBUG", "1")
    with pytest.raises(KernelInputError, match="sequence 0, table entry 2: block id 99"):
        paged_attention(*with_entry(batch, 0, 2, 99).arguments(), scale=1.0)


def test_entries_past_the_length_may_hold_anything(batch: Batch) -> None:
    assert torch.equal(with_entry(batch, 1, 2, -5).run(), batch.run())


def test_lengths_and_rows_that_cannot_be_are_named(batch: Batch, device: torch.device) -> None:
    def lengths(*values: int) -> Batch:
        return replace(batch, seq_lens=torch.tensor(values, dtype=torch.int32, device=device))

    def starts(*values: int) -> Batch:
        return replace(batch, query_starts=torch.tensor(values, dtype=torch.int32, device=device))

    with pytest.raises(KernelInputError, match="sequence 0 of 65 tokens needs 5 blocks, its table has 4"):
        lengths(65, 20).run()
    with pytest.raises(KernelInputError, match="sequence 0 has 2 query rows but 1 tokens"):
        lengths(1, 20).run()
    with pytest.raises(KernelInputError, match="sequence 1 has -1 query rows"):
        starts(0, 3, 2).run()
    with pytest.raises(KernelInputError, match=r"query_starts runs from 0 to 4, not within 0\.\.3"):
        starts(0, 2, 4).run()
    with pytest.raises(KernelInputError, match=r"sequence 0 has 2 query rows \(num_decodes is 1\)"):
        batch.run(num_decodes=1)


def test_shapes_types_and_options_that_do_not_fit_are_refused(batch: Batch, device: torch.device) -> None:
    with pytest.raises(KernelInputError, match="3 query heads are no multiple of 2 KV heads"):
        make_batch([4], [1], heads=3, kv_heads=2, device=device).run()
    with pytest.raises(KernelInputError, match=r"query holds torch\.float64"):
        replace(batch, query=batch.query.double()).run()
    with pytest.raises(KernelInputError, match=r"query has shape \(3, 2, 32\)"):
        replace(batch, query=batch.query[..., :32]).run()
    with pytest.raises(KernelInputError, match=r"seq_lens has shape \(1,\), not \[2\]"):
        replace(batch, seq_lens=batch.seq_lens[:1]).run()
    with pytest.raises(KernelInputError, match=r"query_starts has shape \(2,\), not \[3\]"):
        replace(batch, query_starts=batch.query_starts[:2]).run()
    with pytest.raises(KernelInputError, match=r"k_pool holds torch\.float64"):
        replace(batch, k_pool=batch.k_pool.double(), v_pool=batch.v_pool.double()).run()
    with pytest.raises(KernelInputError, match="sliding_window 0 is not positive"):
        batch.run(sliding_window=0)
    with pytest.raises(KernelInputError, match=r"soft_cap -1\.0 is not positive"):
        batch.run(soft_cap=-1.0)
    with pytest.raises(KernelInputError, match="split 48 is not a power of two"):
        batch.run(split=48)
    with pytest.raises(KernelInputError, match="num_decodes 3 is not within 2 sequences and 3 rows"):
        batch.run(num_decodes=3)
    with pytest.raises(KernelInputError, match=r"sinks is \(3,\)"):
        batch.run(sinks=torch.zeros(3, device=device))


def test_cpu_tensors_are_refused_where_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch([4], [1], device=torch.device("cpu"))
    monkeypatch.setattr(checks, "INTERPRETED", False)
    with pytest.raises(KernelInputError, match="k_pool is on cpu: kernels need a GPU"):
        batch.run()
