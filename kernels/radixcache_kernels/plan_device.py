"""A plan's arrays on the device, where kernels read them, kept from step to step, in one place if asked."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from radixcache_kernels.jit import INTERPRETED
from radixcache_kernels.plan import SPARE_SPLITS, AttentionPlan
from radixcache_kernels.splits import IntArray
from radixcache_kernels.tiles import PlanOptions

# Programs a processor of the GPU that a fixed grid has; they share out the items among them.
PROGRAMS_A_PROCESSOR = 8


class PlanOverflowError(ValueError):
    """A plan has more work than a DevicePlan of fixed capacity has room for."""


class PlanCapacity(NamedTuple):
    """Room in a DevicePlan: rows, narrow and wide items, and places of partial results."""

    rows: int
    narrow: int
    wide: int
    partials: int

    @staticmethod
    def of_decodes(options: PlanOptions, num_sequences: int, max_tokens: int) -> "PlanCapacity":
        """What any batch of `num_sequences` decodes of at most `max_tokens` tokens can need."""
        splits = -(-max_tokens // options.split)
        shared = options.share and options.wide_rows > options.narrow_rows
        return PlanCapacity(
            rows=num_sequences,
            narrow=num_sequences * splits,
            wide=splits * (num_sequences // options.narrow_rows) if shared else 0,
            partials=num_sequences * (splits + SPARE_SPLITS),
        )


class Work(NamedTuple):
    """What the kernels are given of a plan.

    Attributes:
        options: of the plan.
        rows, narrow, wide, tiles: int32 tensors as in AttentionPlan, with room to spare.
        num_rows, num_narrow, num_wide: int32 `[1]`, how much of them counts.
        row_programs, narrow_programs, wide_programs: of these grids, without the KV heads for the first.
        num_tiles: of the prefill kernel.
        partials: places of partial results.
    """

    options: PlanOptions
    rows: Tensor
    narrow: Tensor
    wide: Tensor
    tiles: Tensor
    num_rows: Tensor
    num_narrow: Tensor
    num_wide: Tensor
    row_programs: int
    narrow_programs: int
    wide_programs: int
    num_tiles: int
    partials: int


class DevicePlan:
    """The plan of the current step on a device.

    Without a capacity tensors grow as plans do, and a launch has the programs that the plan needs. With one,
    tensors and grids never change, so that a recorded CUDA graph may be replayed with the next plan loaded;
    such a plan is of decodes alone.
    """

    def __init__(self, device: torch.device, kv_heads: int, capacity: PlanCapacity | None = None) -> None:
        self._device = device
        self._kv_heads = kv_heads
        self._capacity = capacity
        room = capacity or PlanCapacity(0, 0, 0, 0)
        self._rows = self._empty(room.rows, 3)
        self._narrow = self._empty(room.narrow, 4)
        self._wide = self._empty(room.wide, 4)
        self._tiles = self._empty(0, 2)
        self._counts = torch.zeros(3, dtype=torch.int32, device=device)
        self._plan: AttentionPlan | None = None
        self._work: Work | None = None

    @property
    def plan(self) -> AttentionPlan | None:
        """The plan that was loaded last."""
        return self._plan

    @property
    def work(self) -> Work:
        """The loaded plan for the kernels. Raises ValueError if none was loaded."""
        if self._work is None:
            raise ValueError("the device plan has no plan loaded")
        return self._work

    def load(self, plan: AttentionPlan) -> None:
        """Bring a planner's latest plan to the device, in the order of the current stream, without waiting.

        Of a plan that only grew since the last load, only what is new is copied; nothing if nothing is.

        Raises PlanOverflowError if it does not fit the capacity; what was loaded before then stays.
        """
        last = self._plan
        if plan is last:
            return
        self._make_room(plan)
        known = last if last is not None and last.build == plan.build else None
        if known is None or known.rows is not plan.rows:
            self._copy(self._rows, plan.rows)
        if known is None:
            self._copy(self._wide, plan.wide)
            self._copy(self._tiles, plan.tiles)
        since = 0 if known is None else len(known.narrow)
        self._copy(self._narrow[since:], plan.narrow[since:])
        counts = np.array([len(plan.rows), len(plan.narrow), len(plan.wide)], dtype=np.int32)
        self._copy(self._counts, counts)
        self._plan = plan
        self._work = self._describe(plan)

    def _make_room(self, plan: AttentionPlan) -> None:
        needed = PlanCapacity(len(plan.rows), len(plan.narrow), len(plan.wide), plan.partials)
        if self._capacity is not None:
            for name, need, room in zip(PlanCapacity._fields, needed, self._capacity, strict=True):
                if need > room:
                    raise PlanOverflowError(f"the plan has {need} {name}, there is room for {room}")
            if len(plan.tiles):
                raise PlanOverflowError(f"the plan has {len(plan.tiles)} tiles of prefill, not decodes alone")
            return
        if needed.rows > len(self._rows):
            self._rows = self._empty(needed.rows, 3)
        if needed.wide > len(self._wide):
            self._wide = self._empty(needed.wide, 4)
        if len(plan.tiles) > len(self._tiles):
            self._tiles = self._empty(len(plan.tiles), 2)
        if needed.narrow > len(self._narrow):
            larger = self._empty(needed.narrow * 5 // 4, 4)
            larger[: len(self._narrow)] = self._narrow
            self._narrow = larger

    def _describe(self, plan: AttentionPlan) -> Work:
        narrow, wide = len(plan.narrow) * self._kv_heads, len(plan.wide) * self._kv_heads
        rows, partials = len(plan.rows), plan.partials
        if self._capacity is not None:
            fixed = fixed_programs(self._device)
            narrow = min(self._capacity.narrow * self._kv_heads, fixed)
            wide = min(self._capacity.wide * self._kv_heads, fixed)
            rows, partials = self._capacity.rows, self._capacity.partials
        return Work(
            plan.options,
            self._rows,
            self._narrow,
            self._wide,
            self._tiles,
            self._counts[0:1],
            self._counts[1:2],
            self._counts[2:3],
            rows,
            narrow,
            wide,
            len(plan.tiles),
            partials,
        )

    def _empty(self, count: int, width: int) -> Tensor:
        return torch.empty((count, width), dtype=torch.int32, device=self._device)

    def _copy(self, target: Tensor, array: IntArray) -> None:
        if not len(array):
            return
        source = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type == "cuda":
            # A copy from pinned memory does not wait; the allocator keeps it until the copy is done.
            source = source.pin_memory()
        target[: len(array)].copy_(source, non_blocking=True)


@lru_cache
def fixed_programs(device: torch.device) -> int:
    """Programs of a grid whose size is to fit any amount of work."""
    if INTERPRETED:
        return 2  # so that programs have more than one item
    return PROGRAMS_A_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


@lru_cache(maxsize=16)
def _unplanned_decodes(
    num_decodes: int, num_splits: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and items [sequences x splits] for the first sequences, and their counts."""
    sequences = torch.arange(num_decodes, dtype=torch.int32, device=device)
    rows = torch.stack([sequences, sequences, sequences * num_splits], dim=1)
    of_item = sequences.repeat(num_splits)
    splits = torch.arange(num_splits, dtype=torch.int32, device=device).repeat_interleave(num_decodes)
    items = torch.stack([splits, of_item, torch.ones_like(splits), of_item], dim=1)
    counts = torch.tensor([num_decodes, num_decodes * num_splits, 0], dtype=torch.int32).to(device)
    return rows, items, counts[:2], counts[2:]


def unplanned_work(
    query_starts: Tensor,
    options: PlanOptions,
    kv_heads: int,
    num_rows: int,
    num_decodes: int,
    max_tokens: int,
) -> Work:
    """The work of a batch that is known on the device alone: decodes first, and nothing shared.

    Each decode has an item for every split that max_tokens reach, whatever its length. Prefill tiles are
    counted out on the device; their number is bounded by that of rows.
    """
    num_splits = max(1, -(-max_tokens // options.split))
    rows, items, counts, none = _unplanned_decodes(num_decodes, num_splits, query_starts.device)
    num_tiles = 0
    tiles = items[:0, :2]
    prefills = len(query_starts) - 1 - num_decodes
    if num_rows > num_decodes and prefills > 0:
        step = options.prefill_rows
        num_tiles = (num_rows - num_decodes) // step + prefills
        pieces = (query_starts[num_decodes:].diff() + (step - 1)) // step
        ends = pieces.cumsum(0)
        place = torch.arange(num_tiles, dtype=ends.dtype, device=ends.device)
        # Places past the last tile go to the last sequence, past its rows.
        sequence = torch.searchsorted(ends, place, right=True).clamp_(max=prefills - 1)
        first_token = (place - (ends - pieces)[sequence]) * step
        tiles = torch.stack([sequence + num_decodes, first_token], dim=1).to(torch.int32)
    return Work(
        options,
        rows,
        items,
        items[:0],
        tiles,
        counts[:1],
        counts[1:],
        none,
        num_decodes,
        num_decodes * num_splits * kv_heads,
        0,
        num_tiles,
        num_decodes * num_splits,
    )
