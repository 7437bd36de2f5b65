"""A model is tried when an engine is made: served right, or refused in one line with the reason."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from benchmarks.tiny_types import tiny_config, tiny_model
from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.engine import self_check
from radixcache.errors import ModelError
from radixcache.models import LoadedModel

SERVED = [
    "llama",
    "gpt2",
    "gemma2",
    "gpt_oss",
    "granitemoeshared",
    "mixtral",
    "olmoe",
    "stablelm",
    "opt",
    "gemma4_text",
]
REFUSED = [
    ("bert", {}, "is bidirectional"),
    ("roberta", {}, "is bidirectional"),
    ("roberta", {"is_decoder": True}, "gives other logits in the engine"),
    ("xlm-roberta-xl", {}, "is bidirectional"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "is bidirectional"),
    ("diffllama", {}, "attends 2 times a pass in layer 0"),
    ("hrm_text", {}, "attends 8 times a pass in layer 0"),
    ("git", {}, "attention of 4 of 4 layers past the interface"),
    ("mllama", {}, "attention of 1 of 4 layers past the interface"),
    ("deepseek_v3", {}, "keys of 4 heads x 24 and values of 4 heads x 16 in layer 0"),
    ("minicpm3", {}, "keys of 4 heads x 24 and values of 4 heads x 16 in layer 0"),
    ("jetmoe", {}, "keys of 4 heads x 16 in layer 0"),
    ("mimo_v2_flash", {}, "keys of 4 heads x 16 in layer 1"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def load(kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> LoadedModel:
    return LoadedModel.of(tiny_model(tiny_config(kind, **changes), dtype=dtype), name="the-model")


def refusal(model: LoadedModel) -> str:
    """What an engine says of a model that it refuses; it leaves no thread behind."""
    before = threading.active_count()
    with pytest.raises(ModelError) as error:
        Engine(model, EngineConfig(cache_tokens=256))
    assert threading.active_count() == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", SERVED)
def test_models_that_the_engine_computes_right_are_served(kind: str, dtype: torch.dtype) -> None:
    with Engine(load(kind, dtype), EngineConfig(cache_tokens=256)) as engine:
        result = engine.submit(range(3, 30), SamplingParams(max_tokens=2, ignore_eos=True)).result()
        assert len(result.token_ids) == 2
        assert engine.stats().cache.free_blocks > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "changes", "reason"), REFUSED)
def test_models_that_it_would_compute_wrong_are_refused(
    kind: str, changes: dict[str, Any], reason: str, dtype: torch.dtype
) -> None:
    assert reason in refusal(load(kind, dtype, **changes))


def test_a_layer_that_looks_past_its_window_is_refused() -> None:
    loaded = load("gemma2")
    layer = loaded.model.config.layer_types.index("sliding_attention")
    loaded.model.model.layers[layer].self_attn.sliding_window = None
    expected = f"attends to all tokens in layer {layer}, but its configuration says a window of 24"
    assert expected in refusal(loaded)


def with_forward(change: Callable[..., Any], dtype: torch.dtype = torch.float32) -> LoadedModel:
    """A Llama whose forward is `change(own forward, **arguments)`."""
    loaded = load("llama", dtype)

    class Changed(type(loaded.model)):  # type: ignore[misc]
        def forward(self, **arguments: Any) -> Any:
            return change(super().forward, **arguments)

    loaded.model.__class__ = Changed
    return loaded


def ignore_positions(own: Any, **arguments: Any) -> Any:
    arguments.pop("position_ids", None)
    return own(**arguments)


def ignore_what_is_kept(own: Any, **arguments: Any) -> Any:
    arguments.pop("logits_to_keep", None)
    return own(**arguments)


def mix_neighbours(own: Any, **arguments: Any) -> Any:
    """Each token's embedding takes something of the token before it, as a short convolution does."""
    model = own.__self__
    embedded = model.get_input_embeddings()(arguments.pop("input_ids"))
    embedded = embedded + embedded.roll(1, dims=1).index_fill(1, torch.tensor([0]), 0)
    return own(inputs_embeds=embedded, **arguments)


def pool_all(own: Any, **arguments: Any) -> Any:
    """Each token's embedding takes the mean of all of them."""
    embedded = own.__self__.get_input_embeddings()(arguments.pop("input_ids"))
    return own(inputs_embeds=embedded + embedded.mean(1, keepdim=True), **arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (ignore_positions, "gives other logits"),
        (ignore_what_is_kept, "gives other logits"),
        (mix_neighbours, "gives other logits"),
        (pool_all, "is bidirectional"),
    ],
)
def test_what_a_class_does_wrong_is_found_out_whatever_its_flags_say(
    change: Callable[..., Any], reason: str, dtype: torch.dtype
) -> None:
    message = refusal(with_forward(change, dtype))
    assert message.startswith("the-model: llama ")
    assert reason in message


def test_a_model_that_fails_by_itself_is_refused_with_what_it_says() -> None:
    def fail(own: Any, **arguments: Any) -> Any:
        raise RuntimeError("needs an image\nand more")

    assert refusal(with_forward(fail)).endswith("cannot compute token ids alone: needs an image")


def test_a_model_that_fails_in_a_step_is_refused_with_what_it_says() -> None:
    def fail(own: Any, **arguments: Any) -> Any:
        if "position_ids" in arguments:
            raise RuntimeError("no positions, please")
        return own(**arguments)

    assert "fails in the engine (RuntimeError: no positions, please)" in refusal(with_forward(fail))


def test_running_out_of_memory_is_not_blamed_on_the_model() -> None:
    def fail(own: Any, **arguments: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        Engine(with_forward(fail), EngineConfig(cache_tokens=256))


def test_tokens_without_a_finite_logit_say_nothing_against_a_model() -> None:
    loaded = load("llama")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[::2] = torch.nan
    Engine(loaded, EngineConfig(cache_tokens=256)).close()


def test_columns_that_a_model_masks_do_not_hide_a_difference() -> None:
    theirs = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    theirs[:, :40] = torch.finfo(torch.float16).min
    ours = theirs.clone()
    assert self_check._off(ours, theirs).tolist() == [0, 0, 0]
    ours[1, 40:] *= -1
    off = self_check._off(ours, theirs)
    assert off[1] > 0.5
    assert off[0] == off[2] == 0


def test_prompts_hold_no_token_that_has_a_meaning() -> None:
    loaded = load("llama", bos_token_id=5, eos_token_id=[6, 7], pad_token_id=8)
    seen = {token for seed in range(40) for token in self_check._prompts(loaded, seed)[0].flatten().tolist()}
    assert seen == set(range(128)) - {5, 6, 7, 8}


@pytest.mark.parametrize("context", [2, 3, 15, 16, 17, 18, 19])
def test_a_short_context_is_enough(context: int) -> None:
    Engine(load("llama", max_position_embeddings=context), EngineConfig(cache_tokens=256)).close()


def test_a_context_of_one_token_is_refused() -> None:
    assert "holds 1 token" in refusal(load("llama", max_position_embeddings=1))


def test_a_row_that_is_off_on_some_tokens_alone_does_not_refuse_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a router cannot decide between two experts."""
    own, attempts = self_check._off_in, []

    def off_in(*arguments: Any) -> list[torch.Tensor]:
        common, whole, pieces = own(*arguments)
        whole[len(attempts)] = pieces[len(attempts)] = 1
        attempts.append(1)
        return [common, whole, pieces]

    monkeypatch.setattr(self_check, "_off_in", off_in)
    Engine(load("mixtral"), EngineConfig(cache_tokens=256)).close()
    assert len(attempts) == 2


def test_a_model_in_memory_answers_as_transformers_does() -> None:
    model = tiny_model(tiny_config("qwen3"))
    prompt = list(range(3, 40))
    expected = copy.deepcopy(model).generate(
        torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(prompt) :]
    with Engine(LoadedModel.of(model), EngineConfig(cache_tokens=256)) as engine:
        (result,) = engine.generate([prompt], SamplingParams(max_tokens=6, ignore_eos=True))
    assert list(result.token_ids) == expected.tolist()


def test_anything_but_a_loaded_model_is_a_type_error_that_says_what_to_do() -> None:
    model = transformers.LlamaForCausalLM(tiny_config("llama"))
    with pytest.raises(TypeError, match=r"got LlamaForCausalLM; .*LoadedModel\.of\(model, tokenizer\)"):
        Engine(model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"name or a path, got LlamaForCausalLM; LoadedModel\.of"):
        Engine.from_pretrained(model)
