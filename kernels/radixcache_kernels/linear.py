"""Linear layers whose rows do not depend on each other: not on how many they are, nor on their places.

BLAS libraries choose another algorithm for another number of rows, and it rounds differently: the keys and
values of a prompt then depend on how it was cut into steps. Here every number of a result is summed over the
inputs in one order by one instruction, whatever the number of rows (see linear_tiles.py). The idea is that of
the batch-invariant kernels of He and Thinking Machines Lab, "Defeating Nondeterminism in LLM Inference"
(2025).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import FLOAT_TYPES, KernelInputError
from radixcache_kernels.jit import INTERPRETED, LAUNCH_OPTIONS, dot_type, jit_unspecialised
from radixcache_kernels.linear_tiling import LinearTile, choose_linear_tile

# Tiles of rows that take turns at the same weights, so that they find them in the L2 cache.
ROW_TILES_TOGETHER = 8


@jit_unspecialised("rows")
def linear_kernel(
    out: tl.tensor,
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    rows: tl.tensor,
    in_features: tl.tensor,
    out_features: tl.tensor,
    x_stride: tl.tensor,
    weight_stride: tl.tensor,
    even_in: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_outs: tl.constexpr,
    tile_ins: tl.constexpr,
    together: tl.constexpr,
    dot_type: tl.constexpr,
) -> None:
    """Grid (tiles of rows x tiles of outputs): out [rows, out_features] = x @ weight.T + bias.

    even_in: in_features is a multiple of tile_ins.
    """
    row_tiles = tl.cdiv(rows, tile_rows)
    out_tiles = tl.cdiv(out_features, tile_outs)
    band = tl.program_id(0) // (together * out_tiles)
    height = tl.minimum(row_tiles - band * together, together)
    place = tl.program_id(0) % (together * out_tiles)
    row = (band * together + place % height) * tile_rows + tl.arange(0, tile_rows)
    column = place // height * tile_outs + tl.arange(0, tile_outs)
    live = row < rows

    ins = tl.arange(0, tile_ins)
    # Columns past the last read its weights: their results are not stored, and no load needs a mask.
    source = tl.minimum(column, out_features - 1).to(tl.int64)
    lines = x + row.to(tl.int64)[:, None] * x_stride + ins[None, :]
    weights = weight + source[None, :] * weight_stride + ins[:, None]
    acc = tl.zeros([tile_rows, tile_outs], tl.float32)
    for start in range(0, in_features, tile_ins):
        if even_in:
            left = tl.load(lines, mask=live[:, None], other=0.0)
            right = tl.load(weights)
        else:
            inside = ins < in_features - start
            left = tl.load(lines, mask=live[:, None] & inside[None, :], other=0.0)
            right = tl.load(weights, mask=inside[:, None], other=0.0)
        acc = tl.dot(left.to(dot_type), right.to(dot_type), acc, input_precision="ieee")
        lines += tile_ins
        weights += tile_ins
    if bias is not None:
        acc += tl.load(bias + source).to(tl.float32)[None, :]
    target = out + row.to(tl.int64)[:, None] * out_features + column[None, :]
    mask = live[:, None] & (column < out_features)[None, :]
    tl.store(target, acc.to(out.dtype.element_ty), mask=mask)


def invariant_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, tile: LinearTile | None = None
) -> Tensor:
    """`x @ weight.T + bias`, a row's bits a function of that row and the weights alone.

    x: `[..., in_features]` of float16, bfloat16 or float32. weight: `[out_features, in_features]` of the same
    dtype, dense in the last dimension. bias: `[out_features]` of the same dtype, contiguous, or None.
    tile: to try one; by default the one that should be fastest. It changes no bit.

    Sums are float32 (no TF32), the bias is added before the result is rounded once to x's dtype. Waits for
    nothing and can be captured in a graph. Returns `[..., out_features]`, contiguous.

    Raises KernelInputError on shapes, dtypes or devices that do not fit.
    """
    _check(x, weight, bias)
    out_features, in_features = weight.shape
    lines = x.reshape(-1, in_features)
    if lines.stride(-1) != 1:
        lines = lines.contiguous()
    rows = lines.shape[0]
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    if rows == 0:
        return out
    if tile is None:
        tile = choose_linear_tile(rows, out_features, x.dtype, x.device)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(out_features, tile.outs),)
    linear_kernel[grid](
        out,
        lines,
        weight,
        bias,
        rows,
        in_features,
        out_features,
        lines.stride(0),
        weight.stride(0),
        even_in=in_features % tile.ins == 0,
        tile_rows=tile.rows,
        tile_outs=tile.outs,
        tile_ins=tile.ins,
        together=ROW_TILES_TOGETHER,
        dot_type=dot_type(x.dtype),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **LAUNCH_OPTIONS,
    )
    return out


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if weight.ndim != 2 or weight.stride(1) != 1 or 0 in weight.shape:
        raise KernelInputError(
            f"weight is {tuple(weight.shape)} with strides {weight.stride()}, "
            "not [out_features, in_features] dense in the last dimension"
        )
    if x.dtype not in FLOAT_TYPES:
        raise KernelInputError(f"x holds {x.dtype}, not one of {FLOAT_TYPES}")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise KernelInputError(f"x is {tuple(x.shape)}, not [..., {weight.shape[1]}]")
    if bias is not None and not (bias.shape == weight.shape[:1] and bias.is_contiguous()):
        raise KernelInputError(f"bias is {tuple(bias.shape)}, not contiguous [{weight.shape[0]}]")
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and (other.dtype != x.dtype or other.device != x.device):
            raise KernelInputError(f"{name} is {other.dtype} on {other.device}, x {x.dtype} on {x.device}")
    if not INTERPRETED and not x.is_cuda:
        raise KernelInputError(
            f"x is on {x.device}: kernels need a GPU, or TRITON_INTERPRET=1 before triton's import"
        )
