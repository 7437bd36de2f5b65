"""Kernels that only move bytes: writing new tokens, copy-on-write, blocks to and from another tier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels.cases import BLOCK_SIZE
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.measure import Setting
from benchmarks.kernels.pools import Pools, make_pools
from benchmarks.kernels.timing import Timing, time_calls
from radixcache_kernels import copy_blocks, gather_blocks, scatter_blocks, write_kv
from radixcache_kernels.reference import gather_blocks_reference

# Of a head's largest number: half a step of the codes, and for plain numbers none at all.
ROUNDING = {"plain": 0.0, "int8": 2**-7, "fp8": 2**-4, "int4": 2**-3}


@dataclass(frozen=True, slots=True)
class Move:
    """What is moved; `layers` at once, in `blocks` blocks chosen at random.

    Attributes:
        name: short, for the results file.
        label: for the table.
        kind: "write" (into one layer, quantised on the way), "copy" (half of the blocks to the others),
            "gather" or "scatter".
        kv_format: of the pool.
    """

    name: str
    label: str
    kind: str
    kv_format: str
    blocks: int
    layers: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A move's time; `copy_fraction` is its bytes a second, read and written, over those of a plain copy."""

    move: Move
    bytes_moved: int
    timing: Timing
    copy_fraction: float

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def make_moves(*, tiny: bool) -> list[Move]:
    """All moves, in the order of the table; at full size several times what an L2 cache holds."""
    blocks, layers = (8, 2) if tiny else (1024, 16)
    moves = [
        Move(f"write-{kind}", f"write 64 k tokens, {kind}", "write", kind, 6 if tiny else 4096, 1)
        for kind in ROUNDING
    ]
    for kind in ("copy", "gather", "scatter"):
        for kv_format in ("plain", "int4"):
            label = f"{kind} {blocks} blocks x {layers}, {kv_format}"
            moves.append(Move(f"{kind}-{kv_format}", label, kind, kv_format, blocks, layers))
    return moves


def measure_move(move: Move, setting: Setting, ceilings: Ceilings) -> Moved:
    """Check and time a move.

    Raises:
        AssertionError: something else arrived than was sent.
    """
    generator = torch.Generator(setting.device).manual_seed(setting.seed)
    if move.kind == "write":
        call, moved = _write(move, setting, generator)
    else:
        call, moved = _between_blocks(move, setting, generator)
    timing = time_calls([call], setting.device, setting.budget_s)
    return Moved(move, moved, timing, moved / timing.median_s / ceilings.copy_bytes_per_s)


def _write(move: Move, setting: Setting, generator: torch.Generator) -> tuple[Callable[[], None], int]:
    shape, device = setting.shape, setting.device
    pools = make_pools(move.kv_format, setting.dtype, shape, (move.blocks,), device)
    rows = torch.empty(
        2, move.blocks * BLOCK_SIZE, shape.kv_heads, shape.head_dim, dtype=setting.dtype, device=device
    )
    rows.normal_(generator=generator)
    slots = torch.randperm(rows.shape[1], generator=generator, device=device)

    def write() -> None:
        write_kv(rows[0], rows[1], pools.keys, pools.values, slots, **pools.scales)

    write()
    stored = pools.dequantised(torch.arange(move.blocks, device=device))
    for sent, found in zip(rows, stored, strict=True):
        arrived = found.flatten(0, 1)[slots].double()
        largest = sent.double().abs().amax(-1, keepdim=True)
        assert bool(((arrived - sent.double()).abs() <= ROUNDING[move.kv_format] * largest).all()), move.name
    return write, rows.numel() * rows.element_size() + move.blocks * pools.bytes_per_block


def _between_blocks(
    move: Move, setting: Setting, generator: torch.Generator
) -> tuple[Callable[[], None], int]:
    device = setting.device
    pools = make_pools(move.kv_format, setting.dtype, setting.shape, (move.layers, move.blocks), device)
    for storage in pools.storages:
        _fill(storage, generator)
    order = torch.randperm(move.blocks, generator=generator, device=device)
    if move.kind == "copy":
        half = move.blocks // 2
        sources, targets = order[:half], order[half : 2 * half]
        tokens = torch.full_like(sources, BLOCK_SIZE)

        def copy() -> None:
            copy_blocks(pools.keys, pools.values, sources, targets, tokens, **pools.scales)

        copy()
        assert all(
            torch.equal(_bytes(part[:, sources]), _bytes(part[:, targets])) for part in pools.storages
        ), move.name
        return copy, 2 * half * pools.bytes_per_block
    return _staged(move, pools, order), 2 * move.blocks * pools.bytes_per_block


def _staged(move: Move, pools: Pools, order: Tensor) -> Callable[[], None]:
    """Blocks to or from a tensor of records, checked against the reference."""
    expected = gather_blocks_reference(pools.storages, order)
    staging = torch.zeros_like(expected)
    run = gather_blocks if move.kind == "gather" else scatter_blocks
    if move.kind == "scatter":
        staging.copy_(expected)
        for storage in pools.storages:
            _bytes(storage).zero_()

    def transfer() -> None:
        run(pools.keys, pools.values, order, staging, **pools.scales)

    transfer()
    found = staging if move.kind == "gather" else gather_blocks_reference(pools.storages, order)
    assert torch.equal(found, expected), move.name
    return transfer


def _fill(storage: Tensor, generator: torch.Generator) -> None:
    if storage.is_floating_point() and storage.element_size() > 1:
        storage.normal_(generator=generator)
    else:
        _bytes(storage).random_(0, 256, generator=generator)


def _bytes(storage: Tensor) -> Tensor:
    return storage.view(torch.uint8)
