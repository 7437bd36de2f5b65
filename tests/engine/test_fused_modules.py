"""RMS norms and gated MLPs are replaced where a trial finds the same formula, and only there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from radixcache.engine.cpu.fusion import fuse_projections
from radixcache.engine.cpu.gates import FusedMLP, fuse_gates
from radixcache.engine.cpu.norms import FusedRMSNorm, fuse_norms
from tests import tiny_models


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_plain_rms_norms_are_fused_and_logits_stay_the_same_up_to_rounding(name: str) -> None:
    model = copy.deepcopy(tiny_models.reference(name))
    for module in norms(model):
        nn.init.normal_(module.weight)  # type: ignore[arg-type]
    prompt = torch.arange(3, 90).unsqueeze(0)
    with torch.inference_mode():
        before = model(prompt).logits
        fuse_norms(model)
        after = model(prompt).logits
    assert norms(model)
    assert all(isinstance(module, FusedRMSNorm) for module in norms(model))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_norms_of_another_formula_are_left_alone() -> None:
    # Gemma multiplies by one plus the weight.
    model = copy.deepcopy(tiny_models.reference("gemma2-softcap"))
    before = [type(module) for module in norms(model)]
    fuse_norms(model)
    assert before
    assert [type(module) for module in norms(model)] == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e3])
def test_a_fused_norm_is_as_close_to_float64_as_its_type_allows(dtype: torch.dtype, size: float) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(96, generator=generator).to(dtype)
    x = (size * torch.randn(1, 7, 96, generator=generator)).to(dtype)
    found = FusedRMSNorm(nn.Parameter(weight, requires_grad=False), 1e-5)(x)
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-30)


def test_a_row_of_a_norm_has_the_same_bits_among_any_others() -> None:
    norm = FusedRMSNorm(nn.Parameter(torch.rand(576), requires_grad=False), 1e-5)
    rows = torch.randn(2000, 576)
    together = norm(rows)
    for count in (1, 2, 3, 57, 58, 511):
        assert torch.equal(norm(rows[:count].clone()), together[:count])


class Gated(nn.Module):
    """As models write it; `twist` makes it another formula."""

    def __init__(self, *, twist: float = 1.0) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(24, 64, bias=False)
        self.up_proj = nn.Linear(24, 64, bias=False)
        self.down_proj = nn.Linear(64, 24, bias=False)
        self.act_fn = nn.SiLU()
        self.twist = twist

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x) * self.twist)
        return out


def test_a_gated_mlp_is_fused_without_changing_a_bit() -> None:
    model = nn.Sequential(Gated())
    x = torch.randn(1, 9, 24)
    with torch.inference_mode():
        fuse_projections(model)
        before = model(x)
        fuse_gates(model)
        assert isinstance(model[0], FusedMLP)
        assert torch.equal(model(x), before)


def test_an_mlp_of_another_formula_is_left_alone() -> None:
    model = nn.Sequential(Gated(twist=0.5))
    fuse_projections(model)
    fuse_gates(model)
    assert isinstance(model[0], Gated)


def test_each_mlp_of_a_class_is_judged_by_its_own_settings() -> None:
    model = nn.Sequential(Gated(), Gated(twist=0.5), Gated())
    fuse_projections(model)
    fuse_gates(model)
    assert [type(module) for module in model] == [FusedMLP, Gated, FusedMLP]


def test_an_mlp_whose_activation_hands_out_its_input_is_still_right() -> None:
    gated = Gated()
    gated.act_fn = nn.Identity()  # type: ignore[assignment]
    model = nn.Sequential(gated)
    x = torch.randn(1, 9, 24)
    with torch.inference_mode():
        before = model(x)
        fuse_projections(model)
        fuse_gates(model)
        torch.testing.assert_close(model(x), before)
