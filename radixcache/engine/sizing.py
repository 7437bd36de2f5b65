"""How large the KV pool is."""

from __future__ import annotations

import torch

from radixcache.engine.config import EngineConfig
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.models import LoadedModel


def make_pool(model: LoadedModel, config: EngineConfig) -> PagedPool:
    """The KV pool that a config asks for, on the model's device.

    Raises:
        ValueError: it is smaller than one block or larger than memory.
    """
    layout = KVLayout.of(model.model.config, config.block_size, model.dtype, config.kv_dtype)
    num_blocks = _num_blocks(layout, config, model.device)
    try:
        return PagedPool(layout, num_blocks, model.device)
    except (MemoryError, torch.OutOfMemoryError) as error:
        size = num_blocks * layout.bytes_per_block / (1 << 30)
        raise ValueError(
            f"the cache of {num_blocks} blocks, {size:.1f} GiB, does not fit in the memory of {model.device}"
        ) from error


def _num_blocks(layout: KVLayout, config: EngineConfig, device: torch.device) -> int:
    if config.cache_tokens is not None:
        num_blocks = config.cache_tokens // config.block_size
    else:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        num_blocks = layout.blocks_in(config.cache_bytes(free))
    if num_blocks < 1:
        block = f"{config.block_size} tokens, {layout.bytes_per_block} bytes"
        raise ValueError(f"the cache is smaller than one block of {block}")
    return num_blocks
