"""The linear layer: right, and a row's bits its own at every number of rows, at every place, in all tiles."""

import pytest
import torch
from torch import Tensor

from radixcache_kernels import (
    INTERPRETED,
    KernelInputError,
    LinearShape,
    LinearTile,
    choose_linear_tile,
    invariant_linear,
    linear_bits,
    linear_tiles,
    same_bits,
)

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
# The interpreter truncates to bfloat16.
ROUNDING = {F32: 2**-23, F16: 2**-10, BF16: 2**-7}


def numbers(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    """Random numbers of many sizes, so that another order of a sum shows in its last bits."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(-3, 4, shape, generator=generator)
    return torch.ldexp(torch.randn(shape, generator=generator), sizes).to(dtype).to(device)


def assert_right(result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    exact = x.double() @ weight.double().t()
    size = x.double().abs() @ weight.double().abs().t()
    if bias is not None:
        exact, size = exact + bias.double(), size + bias.double().abs()
    bound = ROUNDING[x.dtype] * exact.abs() + (x.shape[-1] + 1) * 2.0**-23 * size
    assert result.dtype == x.dtype
    assert ((result.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize(
    ("rows", "ins", "outs", "with_bias"), [(1, 64, 16, False), (70, 72, 50, True), (3, 20, 7, True)]
)
def test_results_are_those_of_float64(
    dtype: torch.dtype, rows: int, ins: int, outs: int, with_bias: bool, device: torch.device
) -> None:
    x = numbers(rows, ins, dtype=dtype, device=device)
    weight = numbers(outs, ins, dtype=dtype, device=device, seed=1)
    bias = numbers(outs, dtype=dtype, device=device, seed=2) if with_bias else None
    for tile in (None, *linear_tiles(dtype, device)):
        assert_right(invariant_linear(x, weight, bias, tile=tile), x, weight, bias)


@pytest.mark.parametrize(
    "dtype", [F16, *(pytest.param(dtype, marks=pytest.mark.gpu) for dtype in (F32, BF16))]
)
def test_no_number_of_rows_changes_a_bit(dtype: torch.dtype, device: torch.device) -> None:
    x = numbers(300, 20, dtype=dtype, device=device)
    weight = numbers(9, 20, dtype=dtype, device=device, seed=1)
    whole = invariant_linear(x, weight)
    assert_right(whole, x, weight, None)
    generator = torch.Generator().manual_seed(3)
    for count in range(1, 301):
        # Each count has other rows, at other places.
        order = torch.randperm(300, generator=generator)[:count].to(device)
        assert torch.equal(invariant_linear(x[order], weight), whole[order]), count


@pytest.mark.parametrize(
    ("dtype", "ins"), [(F32, 100), (F16, 130), pytest.param(BF16, 4096, marks=pytest.mark.gpu)]
)
def test_no_tile_changes_a_bit(dtype: torch.dtype, ins: int, device: torch.device) -> None:
    x = numbers(130, ins, dtype=dtype, device=device)
    weight = numbers(270, ins, dtype=dtype, device=device, seed=1)
    results = [invariant_linear(x, weight, tile=tile) for tile in linear_tiles(dtype, device)]
    assert len(results) > 1
    assert all(torch.equal(result, results[0]) for result in results)


def test_rows_may_be_a_view_and_weights_a_part(device: torch.device) -> None:
    wide = numbers(2, 5, 48, dtype=F16, device=device)
    stored = numbers(20, 48, dtype=F16, device=device, seed=1)
    result = invariant_linear(wide[..., 8:40], stored[4:, 8:40])
    plain = invariant_linear(wide[..., 8:40].contiguous(), stored[4:, 8:40].contiguous())
    assert result.shape == (2, 5, 16)
    assert torch.equal(result, plain)
    turned = invariant_linear(wide.transpose(0, 1), stored)
    assert torch.equal(turned, invariant_linear(wide, stored).transpose(0, 1))


def test_rows_that_are_not_finite_spoil_no_other(device: torch.device) -> None:
    x = numbers(9, 40, dtype=F16, device=device)
    weight = numbers(16, 40, dtype=F16, device=device, seed=1)
    expected = invariant_linear(x, weight)
    x[4] = float("nan")
    result = invariant_linear(x, weight)
    others = [row for row in range(9) if row != 4]
    assert result[4].isnan().all()
    assert torch.equal(result[others], expected[others])


def test_no_rows_give_no_rows(device: torch.device) -> None:
    x, weight = torch.zeros(1, 0, 32, device=device), torch.zeros(8, 32, device=device)
    assert invariant_linear(x, weight).shape == (1, 0, 8)


def test_arguments_that_do_not_fit_are_refused(device: torch.device) -> None:
    x, weight = torch.zeros(2, 32, device=device), torch.zeros(8, 32, device=device)
    with pytest.raises(KernelInputError, match=r"x is \(2, 31\), not \[\.\.\., 32\]"):
        invariant_linear(x[:, 1:], weight)
    with pytest.raises(KernelInputError, match=r"weight is \(32, 8\) with strides \(1, 32\)"):
        invariant_linear(x, weight.t())
    with pytest.raises(KernelInputError, match=r"bias is \(7,\), not contiguous \[8\]"):
        invariant_linear(x, weight, torch.zeros(7, device=device))
    with pytest.raises(KernelInputError, match=r"weight is torch\.float32 on .*, x torch\.float16"):
        invariant_linear(x.half(), weight)
    with pytest.raises(KernelInputError, match=r"x holds torch\.int64"):
        invariant_linear(x.long(), weight)


def test_the_tile_depends_on_the_shape_alone(device: torch.device) -> None:
    for dtype in (F32, BF16):
        for rows in (1, 64, 65, 4096):
            chosen = choose_linear_tile(rows, 4096, dtype, device)
            assert chosen in linear_tiles(dtype, device)
            assert chosen == choose_linear_tile(rows, 4096, dtype, device)
    assert choose_linear_tile(8192, 28672, BF16, device).rows == 128
    assert choose_linear_tile(1, 28672, BF16, device).rows == 64


def test_a_device_that_keeps_its_promise_passes(device: torch.device, few_counts: None) -> None:
    assert linear_bits([LinearShape(40, 24), LinearShape(72, 20, bias=True)], F32, device) is None
    assert linear_bits([LinearShape(64, 32)], F16, device) is None


def test_other_bits_are_found_and_named(
    device: torch.device, few_counts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_count(x: Tensor, weight: Tensor, bias: Tensor | None, *, tile: LinearTile) -> Tensor:
        result = invariant_linear(x, weight, bias, tile=tile)
        return result if len(x) != 5 else torch.nextafter(result, result.new_tensor(0.0))

    monkeypatch.setattr(same_bits, "invariant_linear", by_count)
    with_other_bits = linear_bits([LinearShape(40, 24)], F32, device)
    assert with_other_bits is not None
    assert (
        "a linear layer of 40 inputs in torch.float32 gives a row other bits among 5 rows" in with_other_bits
    )


def test_wrong_results_are_found(
    device: torch.device, few_counts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_bits, "invariant_linear", lambda x, weight, bias, tile: x @ weight.t() * 1.001)
    assert linear_bits([LinearShape(40, 24)], F32, device) == (
        "a linear layer of 40 inputs in torch.float32 gives wrong results"
    )


@pytest.mark.gpu
def test_a_product_can_be_captured(device: torch.device) -> None:
    assert not INTERPRETED
    x = numbers(5, 4096, dtype=BF16, device=device)
    weight = numbers(1024, 4096, dtype=BF16, device=device, seed=1)
    expected = invariant_linear(x, weight)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = invariant_linear(x, weight)
    graph.replay()
    assert torch.equal(result, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [F16, BF16, F32])
def test_a_device_keeps_its_promise_at_the_shapes_of_models(dtype: torch.dtype, device: torch.device) -> None:
    widths = [(4096, 6144), (4096, 28672), (14336, 4096), (2048, 128256), (576, 1536), (100, 70)]
    shapes = [LinearShape(ins, outs, bias) for ins, outs in widths for bias in (False, True)]
    assert linear_bits(shapes, dtype, device) is None
