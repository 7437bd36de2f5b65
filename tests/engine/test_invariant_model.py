"""Models whose layers are replaced by invariant ones: the same answers, and the reason where it cannot be."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from radixcache.engine.attention import ATTENTION_NAME, register
from radixcache.engine.backends import triton as triton_backend
from radixcache.engine.backends.triton import TritonBackend
from radixcache.engine.cuda import invariant
from radixcache.engine.cuda.invariant import InvariantLinear, make_invariant
from radixcache.engine.cuda.norm_formulas import InvariantNorm, NormFinder, NormFormula
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.models import LoadedModel
from radixcache_kernels import AttentionShape, same_bits
from tests import tiny_models
from tests.interpreter import ordered_products

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _quick_trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if DEVICE.type == "cpu":
        monkeypatch.setattr(same_bits, "COUNTS", (1, 2, 5))
    with ordered_products():
        yield


def model_of(name: str, dtype: torch.dtype = torch.float32) -> Any:
    return tiny_models.reference(name).to(DEVICE, dtype)


def logits(model: Any, tokens: list[int]) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(input_ids=torch.tensor([tokens], device=DEVICE), use_cache=False).logits
    return out[0]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2-softcap", "gpt2-mha", "stablelm"])
def test_a_model_computes_what_it_did(name: str) -> None:
    model, plain = model_of(name), model_of(name)
    assert make_invariant(model, DEVICE) is None
    assert not any(type(module) is nn.Linear for module in model.modules())
    norms = [module for module in model.modules() if "Norm" in type(module).__name__]
    assert norms
    assert all(isinstance(module, InvariantNorm) for module in norms)
    tokens = [3, 17, 90, 41, 5]
    torch.testing.assert_close(logits(model, tokens), logits(plain, tokens), rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_those_beside_it() -> None:
    model = model_of("llama")
    assert make_invariant(model, DEVICE) is None
    head: Any = model.lm_head
    block: Any = model.model.layers[0].mlp
    rows = torch.randn(40, 48, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad():
        whole = head(block(rows))
        for count in (1, 2, 17):
            assert torch.equal(head(block(rows[-count:])), whole[-count:])


def test_tied_weights_stay_tied() -> None:
    model = model_of("gpt2-mha")
    assert make_invariant(model, DEVICE) is None
    assert model.lm_head.weight is model.transformer.wte.weight


def test_experts_are_named_and_the_model_stays_as_it_was() -> None:
    model, plain = model_of("gpt-oss-sinks"), model_of("gpt-oss-sinks")
    reason = make_invariant(model, DEVICE)
    assert reason is not None
    assert reason.startswith("model.layers.0.mlp.")
    assert "which may round by the number of rows" in reason
    assert not any(isinstance(module, InvariantLinear | InvariantNorm) for module in model.modules())
    tokens = [3, 17, 90]
    torch.testing.assert_close(logits(model, tokens), logits(plain, tokens))


class Scaled(nn.Linear):
    """A linear layer that does something else, too, which no replacement of its base class would."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2.0


class UnknownNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.abs().mean(-1, keepdim=True) + self.eps) * self.weight


def test_a_product_of_an_unknown_kind_is_named() -> None:
    model = model_of("llama")
    plain = model.model.layers[1].mlp.down_proj
    scaled = Scaled(plain.in_features, plain.out_features, bias=False).to(DEVICE)
    model.model.layers[1].mlp.down_proj = scaled
    reason = make_invariant(model, DEVICE)
    assert reason is not None
    assert reason.startswith("model.layers.1.mlp.down_proj computes ")
    assert model.model.layers[1].mlp.down_proj is scaled
    assert type(model.lm_head) is nn.Linear


def test_a_norm_of_an_unknown_formula_is_named() -> None:
    model = model_of("llama")
    model.model.norm = UnknownNorm(48).to(DEVICE)
    reason = make_invariant(model, DEVICE)
    assert reason == "model.norm computes mean, which may round by the number of rows"


def test_the_attention_that_was_chosen_stays() -> None:
    register()
    model = model_of("llama")
    model.set_attn_implementation(ATTENTION_NAME)
    assert make_invariant(model, DEVICE) is None
    assert model.config._attn_implementation == ATTENTION_NAME


def test_a_device_that_breaks_its_promise_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    monkeypatch.setattr(invariant, "linear_bits", lambda *_: "a linear layer differs")
    assert make_invariant(model, DEVICE) == f"a linear layer differs (on {DEVICE})"
    assert type(model.lm_head) is nn.Linear

    def broken(*_: object) -> None:
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(invariant, "linear_bits", broken)
    reason = make_invariant(model, DEVICE)
    assert reason == f"the kernels do not run: RuntimeError: no such instruction (on {DEVICE})"
    assert type(model.lm_head) is nn.Linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_formulas_of_norms_are_found(dtype: torch.dtype) -> None:
    finder = NormFinder(dtype)
    with torch.no_grad():
        layer = finder.replacement(nn.LayerNorm(48).to(DEVICE, dtype))
        without_bias = finder.replacement(nn.LayerNorm(48, bias=False).to(DEVICE, dtype))
        root = finder.replacement(nn.RMSNorm(48, eps=1e-6).to(DEVICE, dtype))
        unknown = finder.replacement(UnknownNorm(48).to(DEVICE, dtype))
    assert layer is not None
    assert layer.formula == NormFormula(centre=True)
    assert without_bias is not None
    assert without_bias.formula.centre
    assert root is not None
    assert not root.formula.centre
    assert root.formula.offset == 0.0
    assert unknown is None


def step_logits(loaded: LoadedModel, cuts: list[int], tokens: list[int]) -> Tensor:
    """Logits of every token, computed in chunks that end at `cuts`, from a pool of their own."""
    pool = PagedPool(KVLayout.of(loaded.model.config, 16, loaded.dtype), 8, DEVICE)
    runner = ModelRunner(loaded, pool, TritonBackend(pool))
    table = [5, 2]
    runner.prepare(table, [])
    parts = []
    for start, end in pairwise([0, *cuts]):
        rows = SequenceRows(tokens[start:end], start, table, end - start)
        parts.append(runner.forward([rows]).clone())
    return torch.cat(parts)


DTYPES = [
    torch.float32,
    *(pytest.param(dtype, marks=pytest.mark.gpu) for dtype in (torch.bfloat16, torch.float16)),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_cut_of_a_prompt_changes_a_bit_of_the_logits(dtype: torch.dtype) -> None:
    if dtype != torch.float32 and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = model_of("llama", dtype)
    assert make_invariant(model, DEVICE) is None
    loaded = replace(tiny_models.tiny("llama"), model=model, device=DEVICE, dtype=dtype)
    rng = random.Random(1)
    tokens = [rng.randrange(3, tiny_models.VOCABULARY) for _ in range(19)]
    whole = step_logits(loaded, [19], tokens)
    assert torch.equal(step_logits(loaded, [7, 18, 19], tokens), whole)
    assert torch.equal(step_logits(loaded, [1, 17, 18, 19], tokens), whole)


def test_attention_of_the_pool_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    pool = PagedPool(KVLayout.of(model.config, 16, torch.float16, "int8"), 8, DEVICE)
    tried: list[tuple[AttentionShape, torch.device]] = []
    monkeypatch.setattr(triton_backend, "attention_bits", lambda *given: tried.append(given))
    assert TritonBackend(pool).same_bits([6] * 3, torch.float16) is None
    assert tried == [(AttentionShape(6, 2, 16, torch.float16, torch.int8), DEVICE)]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2-softcap", "gpt2-mha", "stablelm"])
def test_models_are_invariant_on_a_gpu(name: str, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert make_invariant(model_of(name, dtype), DEVICE) is None
