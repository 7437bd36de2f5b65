"""Whether our kernels compile for a GPU and compute there what they should."""

from __future__ import annotations

from functools import cache

import torch

_BLOCK, _HEAD = 16, 64


@cache
def kernel_fault(device: str) -> str | None:
    """Why our kernels cannot be used on `device`, or None if they can; tried once, in seconds.

    One token is written to a pool and attends to itself: the result must be its value.
    """
    try:
        from radixcache_kernels import paged_attention, write_kv

        place = torch.device(device)
        pools = torch.zeros(2, 2, _BLOCK, 1, _HEAD, dtype=torch.float16, device=place)
        rows = torch.randn(3, 1, 1, _HEAD, device=place).half()
        slot = torch.tensor([_BLOCK], device=place)
        write_kv(rows[0], rows[1], pools[0], pools[1], slot)
        out = paged_attention(
            rows[2],
            pools[0],
            pools[1],
            torch.tensor([[1]], dtype=torch.int32, device=place),
            torch.tensor([1], dtype=torch.int32, device=place),
            torch.tensor([0, 1], dtype=torch.int32, device=place),
            scale=1.0,
            num_decodes=1,
        )
        same = torch.equal(out, rows[1])
    except Exception as error:  # compilers and drivers raise errors of many kinds
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None if same else "a token's attention to itself alone did not give its value"
