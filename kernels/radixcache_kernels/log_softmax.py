"""log-softmax a row at a time: one program goes over a row in one order, so that a row's bits are its own."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.jit import LAUNCH_OPTIONS, jit
from radixcache_kernels.norms import check_rows_of_numbers, dense_rows

MAX_WIDTH = 1 << 24
TILE = 4096


@jit
def log_softmax_kernel(
    out: tl.tensor,
    x: tl.tensor,
    x_stride: tl.tensor,
    width: tl.tensor,
    tile: tl.constexpr,
) -> None:
    """Grid (rows): out [rows, width] float32."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, tile)
    line = x + row * x_stride
    tops = tl.full([tile], -float("inf"), tl.float32)
    for start in range(0, width, tile):
        live = lanes < width - start
        tops = tl.maximum(tops, tl.load(line + start + lanes, mask=live, other=-float("inf")).to(tl.float32))
    top = tl.max(tops, 0)
    # A row of nothing but -inf gives NaN, as everywhere.
    totals = tl.zeros([tile], tl.float32)
    for start in range(0, width, tile):
        live = lanes < width - start
        numbers = tl.load(line + start + lanes, mask=live, other=-float("inf")).to(tl.float32)
        totals += tl.where(live, tl.exp(numbers - top), 0.0)
    log_total = tl.log(tl.sum(totals, 0))
    for start in range(0, width, tile):
        live = lanes < width - start
        numbers = tl.load(line + start + lanes, mask=live, other=0.0).to(tl.float32)
        tl.store(out + row * width + start + lanes, numbers - top - log_total, mask=live)


def invariant_log_softmax(x: Tensor) -> Tensor:
    """Log-probabilities of logits, over the last dimension.

    x: `[..., width]` of float16, bfloat16 or float32.

    Returns float32 `[..., width]`, contiguous. Raises KernelInputError on arguments that do not fit.
    """
    check_rows_of_numbers(x, MAX_WIDTH)
    lines = dense_rows(x)
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if lines.shape[0] == 0:
        return out
    width = x.shape[-1]
    log_softmax_kernel[(lines.shape[0],)](
        out,
        lines,
        lines.stride(0),
        width,
        tile=min(TILE, triton.next_power_of_2(width)),
        num_warps=8,
        **LAUNCH_OPTIONS,
    )
    return out
