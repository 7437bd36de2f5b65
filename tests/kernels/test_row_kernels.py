"""Norms and log-softmax: right, and a row's bits its own at every number of rows and at every place."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from radixcache_kernels import (
    KernelInputError,
    invariant_layer_norm,
    invariant_log_softmax,
    invariant_rms_norm,
    row_bits,
    same_bits,
)

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
# The interpreter truncates to bfloat16.
TOLERANCE = {F32: 4e-6, F16: 2**-10, BF16: 2**-7}
EPS = 1e-5


def rows_of(count: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    return (torch.randn(count, width, generator=generator) * 3 + 1).to(dtype).to(device)


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize("width", [1, 48, 600])
def test_results_are_those_of_float64(dtype: torch.dtype, width: int, device: torch.device) -> None:
    x, parameters = rows_of(3, width, dtype, device), rows_of(2, width, dtype, device)
    weight, bias = parameters
    exact, plain = x.double(), (width,)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    found = invariant_rms_norm(x, weight, EPS).double()
    torch.testing.assert_close(found, functional.rms_norm(exact, plain, weight.double(), EPS), **close)
    found = invariant_rms_norm(x, weight, EPS, offset=1.0).double()
    torch.testing.assert_close(found, functional.rms_norm(exact, plain, weight.double() + 1, EPS), **close)
    found = invariant_rms_norm(x, None, EPS).double()
    torch.testing.assert_close(found, functional.rms_norm(exact, plain, None, EPS), **close)
    expected = functional.layer_norm(exact, plain, weight.double(), bias.double(), EPS)
    torch.testing.assert_close(invariant_layer_norm(x, weight, bias, EPS).double(), expected, **close)
    logs = invariant_log_softmax(x)
    assert logs.dtype == F32
    torch.testing.assert_close(logs.double(), exact.log_softmax(-1), rtol=4e-6, atol=4e-6)


def test_rounding_before_the_weight_is_that_of_models(device: torch.device) -> None:
    x, weight = rows_of(4, 64, F16, device), rows_of(1, 64, F16, device)[0]
    wide = x.float()
    once = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).half()
    found = invariant_rms_norm(x, weight, EPS, round_first=True)
    assert (found == weight * once).float().mean() > 0.99
    assert not torch.equal(found, invariant_rms_norm(x, weight, EPS))


def test_a_log_softmax_of_several_tiles(device: torch.device) -> None:
    x = rows_of(2, 9001, F16, device)
    x[0, 17] = -float("inf")
    logs = invariant_log_softmax(x)
    torch.testing.assert_close(logs.double(), x.double().log_softmax(-1), rtol=4e-6, atol=4e-6)
    assert logs[0, 17] == -float("inf")


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rms": lambda x, weight: invariant_rms_norm(x, weight, EPS),
    "layer": lambda x, weight: invariant_layer_norm(x, weight, weight, EPS),
    "log-softmax": lambda x, _: invariant_log_softmax(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_number_of_rows_changes_a_bit(name: str, device: torch.device) -> None:
    x, weight = rows_of(20, 80, F32, device), rows_of(1, 80, F32, device)[0]
    whole = CALLS[name](x, weight)
    generator = torch.Generator().manual_seed(3)
    for count in range(1, 21, 1 if x.is_cuda else 3):
        order = torch.randperm(20, generator=generator)[:count].to(device)
        assert torch.equal(CALLS[name](x[order], weight), whole[order]), count


def test_views_are_read_where_they_lie(device: torch.device) -> None:
    heads = rows_of(6, 96, F32, device).view(1, 6, 2, 48)
    weight = rows_of(1, 48, F32, device)[0]
    found = invariant_rms_norm(heads.transpose(1, 2), weight, EPS)
    assert torch.equal(found, invariant_rms_norm(heads, weight, EPS).transpose(1, 2))
    assert torch.equal(invariant_log_softmax(heads[..., ::2]), invariant_log_softmax(heads[..., ::2].clone()))
    assert invariant_log_softmax(heads[:, :0]).shape == (1, 0, 2, 48)


def test_arguments_that_do_not_fit_are_refused(device: torch.device) -> None:
    x = torch.zeros(2, 32, device=device)
    with pytest.raises(KernelInputError, match=r"weight is torch\.float32 \(31,\), not contiguous \[32\]"):
        invariant_rms_norm(x, torch.zeros(31, device=device), EPS)
    with pytest.raises(KernelInputError, match=r"bias is torch\.int64 \(32,\)"):
        invariant_layer_norm(x, None, torch.zeros(32, dtype=torch.int64, device=device), EPS)
    with pytest.raises(KernelInputError, match=r"x holds torch\.int64"):
        invariant_log_softmax(x.long())
    with pytest.raises(KernelInputError, match=r"x is \(2, 0\), not \[\.\.\., 1 to"):
        invariant_log_softmax(x[:, :0])


def test_a_device_that_keeps_its_promise_passes(device: torch.device, few_counts: None) -> None:
    assert row_bits([48, 20], F16, device) is None


def test_other_bits_are_found_and_named(
    device: torch.device, few_counts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_count(x: Tensor) -> Tensor:
        return invariant_log_softmax(x) + (2.0**-20 if len(x) == 5 else 0.0)

    monkeypatch.setattr(same_bits, "invariant_log_softmax", by_count)
    found = row_bits([48], F16, device)
    assert found == "a log-softmax of 48 numbers in torch.float16 gives a row other bits among 5 rows"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [F16, BF16, F32])
def test_a_device_keeps_its_promise_at_the_widths_of_models(dtype: torch.dtype, device: torch.device) -> None:
    assert row_bits([64, 128, 576, 4096, 8192, 16384], dtype, device) is None
