"""RMS norms are fused only where not a bit changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from radixcache.engine.norms import fuse_norms
from tests import tiny_models


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_plain_rms_norms_are_fused_and_no_logit_changes(name: str) -> None:
    model = copy.deepcopy(tiny_models.reference(name))
    for module in norms(model):
        nn.init.normal_(module.weight)  # type: ignore[arg-type]
    prompt = torch.arange(3, 90).unsqueeze(0)
    with torch.inference_mode():
        before = model(prompt).logits
        fuse_norms(model)
        after = model(prompt).logits
    assert norms(model)
    assert all(isinstance(module, nn.RMSNorm) for module in norms(model))
    assert torch.equal(before, after)


def test_norms_of_another_formula_are_left_alone() -> None:
    # Gemma multiplies by one plus the weight.
    model = copy.deepcopy(tiny_models.reference("gemma2-softcap"))
    before = [type(module) for module in norms(model)]
    fuse_norms(model)
    assert before
    assert [type(module) for module in norms(model)] == before
