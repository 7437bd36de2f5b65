"""Checks that a plan is that of the batch it is used with: its shape always, its entries in debug mode."""

import numpy as np
from torch import Tensor

from radixcache_kernels.checks import KernelInputError
from radixcache_kernels.plan_device import DevicePlan, Work
from radixcache_kernels.splits import IntArray, split_blocks
from radixcache_kernels.tiles import PlanOptions


def check_plan_fits(plan: DevicePlan, options: PlanOptions, num_sequences: int, num_rows: int) -> None:
    """The plan was made for this split, block size, group and window, and a batch of this size."""
    made_for = plan.work.options
    for name in ("split", "block_size", "group", "window"):
        planned, wanted = getattr(made_for, name), getattr(options, name)
        if planned != wanted:
            raise KernelInputError(f"the plan is for {name} {planned}, the call has {wanted}")
    loaded = plan.plan
    assert loaded is not None
    if loaded.num_sequences != num_sequences or loaded.num_rows > num_rows:
        raise KernelInputError(
            f"the plan is for {loaded.num_sequences} sequences and {loaded.num_rows} rows, "
            f"the batch has {num_sequences} and {num_rows}"
        )


def check_work(work: Work, block_tables: Tensor, seq_lens: Tensor, query_starts: Tensor) -> None:
    """Debug mode: the lists on the device name rows, sequences and splits that exist, each split once.

    The rows of an item must read the same blocks, and every query row of a sequence must be taken once.
    """
    options = work.options
    tables, lengths, starts = (tensor.cpu().numpy() for tensor in (block_tables, seq_lens, query_starts))
    rows = work.rows[: int(work.num_rows)].cpu().numpy()
    owner = _owners(starts)
    taken = np.zeros(len(owner), dtype=np.int64)
    for place, (query_row, sequence, _) in enumerate(rows.tolist()):
        if not (0 <= query_row < len(owner) and owner[query_row] == sequence):
            raise KernelInputError(f"plan row {place}: query row {query_row} is not of sequence {sequence}")
        taken[query_row] += 1
    for place, (sequence, first) in enumerate(work.tiles[: work.num_tiles].tolist()):
        if not (0 <= sequence < len(lengths) and first >= 0):
            raise KernelInputError(f"prefill tile {place}: token {first} of sequence {sequence}")
        begin = min(starts[sequence] + first, starts[sequence + 1])
        taken[begin : min(begin + options.prefill_rows, starts[sequence + 1])] += 1
    if (taken != 1).any():
        row = int(np.flatnonzero(taken != 1)[0])
        raise KernelInputError(f"query row {row} is in the plan {taken[row]} times")
    positions = lengths[rows[:, 1]] - starts[rows[:, 1] + 1] + rows[:, 0]
    covered: set[tuple[int, int]] = set()
    for name, items, count, limit in (
        ("narrow", work.narrow, work.num_narrow, options.narrow_rows),
        ("wide", work.wide, work.num_wide, options.wide_rows),
    ):
        for place, item in enumerate(items[: int(count)].tolist()):
            where = f"{name} item {place} {tuple(item)}"
            split, first, number, sequence = item
            if not (split >= 0 and 0 <= first < first + number <= len(rows) and number <= limit):
                raise KernelInputError(f"{where} names rows outside 0..{len(rows) - 1}, or more than {limit}")
            if not 0 <= sequence < len(lengths):
                raise KernelInputError(f"{where} names a sequence outside 0..{len(lengths) - 1}")
            for row in range(first, first + number):
                if not _sees(int(positions[row]), split, options):
                    continue
                if (row, split) in covered:
                    raise KernelInputError(f"{where}: row {row} has its split twice")
                covered.add((row, split))
                if not _same_blocks(tables, lengths, int(rows[row, 1]), sequence, split, options):
                    raise KernelInputError(f"{where}: row {row} has other blocks than sequence {sequence}")
    for row, position in enumerate(positions.tolist()):
        for split in range(position // options.split + 1):
            if _sees(position, split, options) and (row, split) not in covered:
                raise KernelInputError(f"plan row {row}: nothing covers its split {split}")


def _owners(starts: IntArray) -> IntArray:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts)).astype(np.int32)


def _sees(position: int, split: int, options: PlanOptions) -> bool:
    lowest = 0 if options.window is None else position - options.window + 1
    return split * options.split <= position and (split + 1) * options.split > lowest


def _same_blocks(
    tables: IntArray, lengths: IntArray, first: int, second: int, split: int, options: PlanOptions
) -> bool:
    if first == second:
        return True
    if min(lengths[first], lengths[second]) < (split + 1) * options.split:
        return False
    begin, end = split_blocks(np.asarray(split), options)
    return bool(np.array_equal(tables[first, begin:end], tables[second, begin:end]))
