"""Checks of what callers pass: shapes and types always, block ids in debug mode only (they cost a sync)."""

import os

import torch
from torch import Tensor

from radixcache_kernels.formats import CODES, head_dim_of, scales_of
from radixcache_kernels.jit import INTERPRETED

FLOAT_TYPES = (torch.float32, torch.float16, torch.bfloat16)
INDEX_TYPES = (torch.int32, torch.int64)


class KernelInputError(ValueError):
    """An argument of a kernel has the wrong shape, type or device, or names a block that does not exist."""


def debug_enabled(debug: bool | None) -> bool:
    """`debug` itself, or RADIXCACHE_DEBUG=1 in the environment where it is None."""
    return os.environ.get("RADIXCACHE_DEBUG") == "1" if debug is None else debug


def check_pools(
    k_pool: Tensor,
    v_pool: Tensor,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
    *,
    ndims: tuple[int, ...] = (4,),
) -> None:
    """Both pools alike, of a known type with the scales it needs, layers contiguous, on a usable device."""
    if k_pool.ndim not in ndims:
        raise KernelInputError(f"k_pool has {k_pool.ndim} dimensions, not {' or '.join(map(str, ndims))}")
    if k_pool.shape != v_pool.shape or k_pool.dtype != v_pool.dtype or k_pool.device != v_pool.device:
        raise KernelInputError(f"k_pool is {_describe(k_pool)} but v_pool is {_describe(v_pool)}")
    if k_pool.dtype not in FLOAT_TYPES and k_pool.dtype not in CODES:
        raise KernelInputError(f"k_pool holds {k_pool.dtype}, not one of {(*FLOAT_TYPES, *CODES)}")
    for name, scales in (("k_scales", k_scales), ("v_scales", v_scales)):
        _check_scales(name, scales, k_pool)
    for name, pool in (
        ("k_pool", k_pool),
        ("v_pool", v_pool),
        ("k_scales", k_scales),
        ("v_scales", v_scales),
    ):
        if pool is not None and not (pool if k_pool.ndim == 4 else pool[0]).is_contiguous():
            raise KernelInputError(
                f"{name} is not contiguous: shape {tuple(pool.shape)}, strides {pool.stride()}"
            )
    if not INTERPRETED and not k_pool.is_cuda:
        raise KernelInputError(
            f"k_pool is on {k_pool.device}: kernels need a GPU, or TRITON_INTERPRET=1 before triton's import"
        )


def _check_scales(name: str, scales: Tensor | None, pool: Tensor) -> None:
    try:
        wanted = scales_of(pool, keys=name == "k_scales")
    except ValueError as error:
        raise KernelInputError(str(error)) from None
    if wanted is None and scales is not None:
        raise KernelInputError(f"{name} is given, but a pool of {pool.dtype} has no scales")
    if wanted is not None and (
        scales is None or (tuple(scales.shape), scales.dtype) != wanted or scales.device != pool.device
    ):
        found = "missing" if scales is None else _describe(scales)
        raise KernelInputError(f"{name} is {found}, not {wanted[0]} {wanted[1]} on {pool.device}")


def check_rows(name: str, rows: Tensor, heads: int | None, pool: Tensor) -> None:
    """`rows` is [T, heads, head_dim] of a float type, dense in its last dimension, on the pool's device."""
    head_dim = head_dim_of(pool)
    if rows.ndim != 3 or rows.shape[2] != head_dim or heads not in (None, rows.shape[1]):
        wanted = f"[T, {'heads' if heads is None else heads}, {head_dim}]"
        raise KernelInputError(f"{name} has shape {tuple(rows.shape)}, not {wanted}")
    if rows.dtype not in FLOAT_TYPES:
        raise KernelInputError(f"{name} holds {rows.dtype}, not one of {FLOAT_TYPES}")
    if rows.device != pool.device:
        raise KernelInputError(f"{name} is {_describe(rows)} but the pool is {_describe(pool)}")
    if rows.stride(2) != 1:
        raise KernelInputError(f"{name} is not dense in its last dimension: strides {rows.stride()}")


def check_indices(name: str, indices: Tensor, shape: tuple[int | None, ...], pool: Tensor) -> None:
    """`indices` is a contiguous integer tensor of `shape` (None: any size) on the pool's device."""
    fits = indices.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, indices.shape, strict=True)
    )
    if not fits:
        wanted_shape = ", ".join("any" if size is None else str(size) for size in shape)
        raise KernelInputError(f"{name} has shape {tuple(indices.shape)}, not [{wanted_shape}]")
    if indices.dtype not in INDEX_TYPES:
        raise KernelInputError(f"{name} holds {indices.dtype}, not int32 or int64")
    if indices.device != pool.device:
        raise KernelInputError(f"{name} is on {indices.device} but the pool is on {pool.device}")
    if not indices.is_contiguous():
        raise KernelInputError(f"{name} is not contiguous: strides {indices.stride()}")


def check_sequences(
    block_tables: Tensor,
    seq_lens: Tensor,
    query_starts: Tensor,
    *,
    num_rows: int,
    num_decodes: int,
    sliding_window: int | None,
    pool: Tensor,
) -> None:
    """Debug mode: every length fits its table and every block id that would be read is in the pool."""
    num_blocks, block_size = pool.shape[0], pool.shape[1]
    starts = query_starts.tolist()
    if starts[0] != 0 or starts[-1] > num_rows:
        raise KernelInputError(
            f"query_starts runs from {starts[0]} to {starts[-1]}, not within 0..{num_rows}"
        )
    for sequence, (length, table) in enumerate(zip(seq_lens.tolist(), block_tables.tolist(), strict=True)):
        rows = starts[sequence + 1] - starts[sequence]
        if rows < 0 or (sequence < num_decodes and rows != 1):
            raise KernelInputError(
                f"sequence {sequence} has {rows} query rows (num_decodes is {num_decodes})"
            )
        if length < 0 or 0 < length < rows:
            raise KernelInputError(f"sequence {sequence} has {rows} query rows but {length} tokens")
        entries = -(-length // block_size)
        if entries > len(table):
            raise KernelInputError(
                f"sequence {sequence} of {length} tokens needs {entries} blocks, its table has {len(table)}"
            )
        first_key = 0 if sliding_window is None else max(0, length - rows - sliding_window + 1)
        for entry in range(first_key // block_size, entries if rows > 0 else 0):
            if not 0 <= table[entry] < num_blocks:
                raise KernelInputError(
                    f"sequence {sequence}, table entry {entry}: "
                    f"block id {table[entry]} is outside 0..{num_blocks - 1}"
                )


def check_slots(slots: Tensor, pool: Tensor) -> None:
    """Debug mode: no slot past the pool, and none written twice."""
    num_slots = pool.shape[0] * pool.shape[1]
    seen: dict[int, int] = {}
    for row, slot in enumerate(slots.tolist()):
        if slot >= num_slots:
            raise KernelInputError(f"row {row}: slot {slot} is outside 0..{num_slots - 1}")
        if slot >= 0 and seen.setdefault(slot, row) != row:
            raise KernelInputError(f"rows {seen[slot]} and {row} both write slot {slot}")


def check_blocks(blocks: Tensor, pool: Tensor, *, distinct: bool) -> None:
    """Debug mode: every id is in a pool of all layers; none twice if they must be distinct."""
    num_blocks = pool.shape[-4]
    seen: dict[int, int] = {}
    for place, block in enumerate(blocks.tolist()):
        if not 0 <= block < num_blocks:
            raise KernelInputError(f"entry {place}: block id {block} is outside 0..{num_blocks - 1}")
        if seen.setdefault(block, place) != place and distinct:
            raise KernelInputError(f"entries {seen[block]} and {place} both name block {block}")


def check_copies(sources: Tensor, targets: Tensor, num_tokens: Tensor, pool: Tensor) -> None:
    """Debug mode: ids and counts in range; no target written twice or also read."""
    num_blocks, block_size = pool.shape[-4], pool.shape[-3]
    read, counts = sources.tolist(), num_tokens.tolist()
    written: dict[int, int] = {}
    for copy, (source, target, tokens) in enumerate(zip(read, targets.tolist(), counts, strict=True)):
        for role, block in (("source", source), ("target", target)):
            if not 0 <= block < num_blocks:
                raise KernelInputError(f"copy {copy}: {role} block id {block} is outside 0..{num_blocks - 1}")
        if not 0 <= tokens <= block_size:
            raise KernelInputError(f"copy {copy}: {tokens} tokens do not fit a block of {block_size}")
        if written.setdefault(target, copy) != copy:
            raise KernelInputError(f"copies {written[target]} and {copy} both write block {target}")
    for copy, source in enumerate(read):
        if source in written:
            raise KernelInputError(f"copy {copy} reads block {source}, which copy {written[source]} writes")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
