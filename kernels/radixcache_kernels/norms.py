"""Norms a row at a time: one program sums a row in one order, so that a row's bits are its own.

torch's reductions on a GPU lay threads out by the number of rows, too, and the order of a sum with them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from radixcache_kernels.checks import FLOAT_TYPES, KernelInputError
from radixcache_kernels.jit import INTERPRETED, LAUNCH_OPTIONS, jit

MAX_WIDTH = 1 << 16
WARP_NUMBERS = 512  # of a row, for each warp of its program


@jit
def norm_kernel(
    out: tl.tensor,
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    x_stride: tl.tensor,
    eps: tl.tensor,
    offset: tl.constexpr,
    centre: tl.constexpr,
    round_first: tl.constexpr,
    width: tl.constexpr,
    width_pad: tl.constexpr,
) -> None:
    """Grid (rows): out [rows, width], see `invariant_rms_norm` and `invariant_layer_norm` (centre)."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, width_pad)
    live = places < width
    numbers = tl.load(x + row * x_stride + places, mask=live, other=0.0).to(tl.float32)
    if centre:
        numbers = tl.where(live, numbers - tl.sum(numbers, 0) / width, 0.0)
    scaled = numbers * tl.rsqrt(tl.sum(numbers * numbers, 0) / width + eps)
    if round_first:
        scaled = scaled.to(out.dtype.element_ty).to(tl.float32)
    if weight is not None:
        scaled *= tl.load(weight + places, mask=live, other=0.0).to(tl.float32) + offset
    if bias is not None:
        scaled += tl.load(bias + places, mask=live, other=0.0).to(tl.float32)
    tl.store(out + row * width + places, scaled.to(out.dtype.element_ty), mask=live)


def invariant_rms_norm(
    x: Tensor, weight: Tensor | None, eps: float, *, offset: float = 0.0, round_first: bool = False
) -> Tensor:
    """`x / sqrt(mean(x ** 2) + eps) * (weight + offset)`, over the last dimension.

    x: `[..., width]` of float16, bfloat16 or float32. weight: `[width]` of a float type, contiguous, or None.
    round_first: round to x's dtype before the weight, too, as Llama does; all else is float32, rounded once.

    Returns `[..., width]` of x's dtype, contiguous. Raises KernelInputError on arguments that do not fit.
    """
    return _norm(x, weight, None, eps, offset=offset, centre=False, round_first=round_first)


def invariant_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, over the last dimension.

    x: `[..., width]` of float16, bfloat16 or float32. weight, bias: `[width]` of a float type, contiguous, or
    None. Computed in float32 and rounded once.

    Returns `[..., width]` of x's dtype, contiguous. Raises KernelInputError on arguments that do not fit.
    """
    return _norm(x, weight, bias, eps, offset=0.0, centre=True, round_first=False)


def _norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    offset: float,
    centre: bool,
    round_first: bool,
) -> Tensor:
    check_rows_of_numbers(x, MAX_WIDTH)
    width = x.shape[-1]
    for name, other in (("weight", weight), ("bias", bias)):
        if other is None:
            continue
        if other.shape != (width,) or not other.is_contiguous() or other.dtype not in FLOAT_TYPES:
            raise KernelInputError(
                f"{name} is {other.dtype} {tuple(other.shape)}, not contiguous [{width}] of a float type"
            )
        if other.device != x.device:
            raise KernelInputError(f"{name} is on {other.device}, x on {x.device}")
    lines = dense_rows(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if lines.shape[0] == 0:
        return out
    width_pad = triton.next_power_of_2(width)
    norm_kernel[(lines.shape[0],)](
        out,
        lines,
        weight,
        bias,
        lines.stride(0),
        eps,
        offset=offset,
        centre=centre,
        round_first=round_first,
        width=width,
        width_pad=width_pad,
        num_warps=max(1, min(16, width_pad // WARP_NUMBERS)),
        **LAUNCH_OPTIONS,
    )
    return out


def check_rows_of_numbers(x: Tensor, most: int) -> None:
    """x is `[..., 1 to most]` of a float type, on a device that kernels run on."""
    if x.dtype not in FLOAT_TYPES:
        raise KernelInputError(f"x holds {x.dtype}, not one of {FLOAT_TYPES}")
    if x.ndim == 0 or not 0 < x.shape[-1] <= most:
        raise KernelInputError(f"x is {tuple(x.shape)}, not [..., 1 to {most}]")
    if not INTERPRETED and not x.is_cuda:
        raise KernelInputError(
            f"x is on {x.device}: kernels need a GPU, or TRITON_INTERPRET=1 before triton's import"
        )


def dense_rows(x: Tensor) -> Tensor:
    """x as `[rows, width]`, dense in the last dimension; a copy only where no view is."""
    lines = x.reshape(-1, x.shape[-1])
    return lines if lines.stride(-1) == 1 else lines.contiguous()
