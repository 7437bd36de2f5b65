"""Whether the device at hand gives a row the same bits whatever is computed beside it: tried, bit for bit.

The kernels are made so that it does (see linear_tiles.py and attention_tile.py), as far as a device's matrix
instructions round a number alike in tiles of any shape. No manual promises that, so it is verified, with the
very tiles that will run. Each function returns None, or in one line what differs; on a GPU most of the time
goes into compiling, which has to be done anyway.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from radixcache_kernels.linear import invariant_linear
from radixcache_kernels.linear_tiling import linear_tiles
from radixcache_kernels.log_softmax import invariant_log_softmax
from radixcache_kernels.norms import invariant_layer_norm, invariant_rms_norm

# One row, parts of a tile, a tile, one more, several.
COUNTS = (1, 3, 16, 64, 65, 129, 300)
# Outputs are alike but for the last, ragged tile: of a wide layer some hundreds are tried.
MOST_OUTS, OUTS_STEP = 1024, 256
EPS = 1e-6


class LinearShape(NamedTuple):
    """A linear layer's widths, and whether it has a bias."""

    in_features: int
    out_features: int
    bias: bool = False


def linear_bits(shapes: Iterable[LinearShape], dtype: torch.dtype, device: torch.device) -> str | None:
    """Try `invariant_linear` for layers of these shapes, in all tiles.

    Rows at other places among 1 to 300 must have the bits that they have among 300, and these must be
    right, compared with float64.
    """
    narrow = {
        shape
        if shape.out_features <= MOST_OUTS
        else shape._replace(out_features=MOST_OUTS + shape.out_features % OUTS_STEP)
        for shape in shapes
    }
    for ins, outs, has_bias in sorted(narrow):
        x, weight = _numbers(max(COUNTS), ins, dtype, device), _numbers(outs, ins, dtype, device)
        bias = weight[:, 0].contiguous() if has_bias else None
        tiles = linear_tiles(dtype, device)
        expected = invariant_linear(x, weight, bias, tile=tiles[-1])
        name = f"a linear layer of {ins} inputs in {dtype}"
        if not _right(expected, x, weight, bias):
            return f"{name} gives wrong results"
        for tile in tiles:

            def product(rows: Tensor) -> Tensor:
                return invariant_linear(rows, weight, bias, tile=tile)  # noqa: B023 - called before the next turn

            count = _differing_count(product, x, expected)
            if count is not None:
                return (
                    f"{name} gives a row other bits among {count} rows in tiles of {tile.rows} x {tile.outs}"
                )
    return None


def row_bits(widths: Iterable[int], dtype: torch.dtype, device: torch.device) -> str | None:
    """Try the norms and the log-softmax of rows of these widths, as `linear_bits` tries linear layers."""
    for width in sorted(set(widths)):
        x = _numbers(max(COUNTS), width, dtype, device)
        weight = x[0].contiguous()
        calls: dict[str, Callable[[Tensor], Tensor]] = {
            "a root-mean-square norm": lambda rows: invariant_rms_norm(rows, weight, EPS),  # noqa: B023
            "a layer norm": lambda rows: invariant_layer_norm(rows, weight, weight, EPS),  # noqa: B023
            "a log-softmax": invariant_log_softmax,
        }
        for name, call in calls.items():
            count = _differing_count(call, x, call(x))
            if count is not None:
                return f"{name} of {width} numbers in {dtype} gives a row other bits among {count} rows"
    return None


def _differing_count(call: Callable[[Tensor], Tensor], x: Tensor, expected: Tensor) -> int | None:
    """The first number of rows among which some row has other bits than in `expected`; waits once."""
    generator = torch.Generator().manual_seed(len(x))
    same = []
    for count in COUNTS:
        order = torch.randperm(len(x), generator=generator)[:count].to(x.device)
        same.append((call(x[order]) == expected[order]).all())
    verdicts = torch.stack(same).tolist()
    return next((count for count, verdict in zip(COUNTS, verdicts, strict=True) if not verdict), None)


def _numbers(rows: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random `[rows, width]` of many sizes, so that the order of a sum shows in its last bits."""
    generator = torch.Generator(device).manual_seed(width)
    numbers = torch.randn(rows, width, generator=generator, device=device)
    sizes = torch.randint(-4, 5, (rows, width), generator=generator, device=device)
    return torch.ldexp(numbers, sizes).to(dtype)


def _right(result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it is off by no more than the rounding of float32 sums and of the result."""
    few = slice(0, 32)
    left, right = x[few].double(), weight.double().t()
    exact, size = left @ right, left.abs() @ right.abs()
    if bias is not None:
        exact, size = exact + bias.double(), size + bias.double().abs()
    bound = torch.finfo(x.dtype).eps * exact.abs() + (x.shape[1] + 1) * 2.0**-22 * size
    return bool(((result[few].double() - exact).abs() <= bound).all())
