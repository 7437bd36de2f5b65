"""What fewer bits for keys and values cost: attention error, logits and greedy tokens on real prompts.

For each kv_dtype: the error of attention against float64 on the keys, values and queries that the model
computes for two of the prompts; and, over all prompts followed by the tokens that greedy decoding with the
unquantised cache gives, how often the first choice is the same at each of these tokens, and how far logits
move. A row attends to keys and values as they are stored, its own included, so one pass over prompt and
tokens gives what decoding them one by one would. Nothing here is a timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.common import arguments, model_label, set_threads, write_results
from radixcache import load_model
from radixcache.engine.backends import LayerOptions
from radixcache.engine.backends.torch.backend import TorchBackend
from radixcache.engine.runner import ModelRunner
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.kv.formats import KV_DTYPES
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.logs import read_logs
from radixcache.models import LoadedModel
from radixcache.prompts.encode import PromptEncoder

_DATA = Path(__file__).parents[2] / "shared" / "data"
_LOGS = (_DATA / "airline_agent.jsonl.xz", _DATA / "multiturn_chat.jsonl.xz")
_BLOCK = 16
_CPU = torch.device("cpu")
_CAPTURED_PROMPTS = 2


class Attended(NamedTuple):
    """What one layer attended with: `[tokens, heads, head_dim]` each."""

    query: Tensor
    key: Tensor
    value: Tensor
    options: LayerOptions
    number: int


class Capturing(TorchBackend):
    """Adds what each layer of a step attends with to `captured`, unless that is None."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self.captured: list[Attended] | None = None
        self._written: tuple[Tensor, Tensor] | None = None

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        self._written = key, value
        super().write(layer, key, value)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        if self.captured is not None and self._written is not None:
            key, value = self._written
            self.captured.append(Attended(query.clone(), key.clone(), value.clone(), options, layer))
        return super().attend(layer, query, options)


def main() -> None:
    """Measure, print and write."""
    parser = arguments("kv_quality", __doc__)
    parser.set_defaults(out=parser.get_default("out").with_name("kv-quality.json"))
    parser.add_argument("--log", type=Path, nargs="+", default=list(_LOGS), help="logs, in equal parts")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--longest", type=int, default=2000, help="tokens of a prompt at most")
    parser.add_argument("--max-tokens", type=int, default=32, help="greedy tokens a prompt")
    options = parser.parse_args()
    for log in options.log:
        if not log.exists():
            raise SystemExit(f"{log}: no such log; name one with --log")
    set_threads(options.threads)
    loaded = load_model(options.model, dtype=options.dtype)
    encoder = PromptEncoder(loaded.tokenizer, options.model)
    share = -(-options.prompts // len(options.log))
    prompts = [p for log in options.log for p in islice(_prompts(log, encoder, options.longest), share)]
    prompts = prompts[: options.prompts]
    print(
        f"{len(prompts)} prompts, {sum(map(len, prompts)):,} tokens, {options.max_tokens} greedy tokens each"
    )
    room = max(map(len, prompts)) + options.max_tokens
    exact = _Model(loaded, "auto", room)
    continued = [[*prompt, *exact.greedy(prompt, options.max_tokens)] for prompt in prompts]
    wanted = [exact.logits(tokens, options.max_tokens) for tokens in continued]
    layers = [layer for prompt in prompts[:_CAPTURED_PROMPTS] for layer in exact.attended(prompt)]
    references = [_float64(layer) for layer in layers]
    results = []
    for kv_dtype in KV_DTYPES:
        model = _Model(loaded, kv_dtype, room)
        errors = [_error(model, *pair) for pair in zip(layers, references, strict=True)]
        found = [model.logits(tokens, options.max_tokens) for tokens in continued]
        result = {
            "kv_dtype": kv_dtype,
            "bytes_per_token": model.layout.bytes_per_token,
            "attention_error_mean": sum(errors) / len(errors),
            "attention_error_worst_layer": max(errors),
            **_compare(found, wanted),
        }
        results.append(result)
        _print(result)
    write_results(
        options.out,
        {
            "model": model_label(options.model),
            "dtype": options.dtype,
            "logs": [log.name for log in options.log],
            "prompts": len(prompts),
            "prompt_tokens": sum(map(len, prompts)),
            "greedy_tokens": len(prompts) * options.max_tokens,
            "results": results,
        },
    )


class _Model:
    """The model over a pool of one storage type with room for one sequence."""

    def __init__(self, loaded: LoadedModel, kv_dtype: str, room: int) -> None:
        self.layout = KVLayout.of(loaded.model.config, _BLOCK, loaded.dtype, kv_dtype)
        pool = PagedPool(self.layout, -(-room // _BLOCK), _CPU)
        self._backend = Capturing(pool)
        self._runner = ModelRunner(loaded, pool, self._backend)
        self._table = list(range(pool.num_blocks))

    def greedy(self, prompt: list[int], max_tokens: int) -> list[int]:
        """Tokens of greedy decoding, ends of text among them."""
        logits = self._begin(prompt, 1)
        tokens = [int(logits.argmax())]
        while len(tokens) < max_tokens:
            at = len(prompt) + len(tokens) - 1
            logits = self._runner.forward([SequenceRows(tokens[-1:], at, self._table, 1)])
            tokens.append(int(logits.argmax()))
        return tokens

    def logits(self, tokens: list[int], last: int) -> Tensor:
        """Float32 logits `[last, vocabulary]` that each of the last tokens was chosen by."""
        return self._begin(tokens[:-1], last).clone()

    def attended(self, prompt: list[int]) -> list[Attended]:
        """What every layer attends with in one pass over a prompt."""
        captured: list[Attended] = []
        self._backend.captured = captured
        self._begin(prompt, 1)
        self._backend.captured = None
        return captured

    def _begin(self, tokens: list[int], keep: int) -> Tensor:
        self._runner.prepare(self._table, [])
        return self._runner.forward([SequenceRows(tokens, 0, self._table, keep)])


def _prompts(log: Path, encoder: PromptEncoder, longest: int) -> Iterator[list[int]]:
    for entry in read_logs([str(log)]):
        ids = encoder.encode(entry)
        if 100 <= len(ids) <= longest:
            yield ids.tolist()


def _float64(layer: Attended) -> Tensor:
    """Causal attention `[tokens, heads, head_dim]` in float64."""
    query, key, value = (part.double().transpose(0, 1) for part in layer[:3])
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=layer.options.scale, enable_gqa=True
    )
    return out.transpose(0, 1)


def _error(model: _Model, layer: Attended, reference: Tensor) -> float:
    """The mean over tokens and heads of |ours - float64|, over that of |float64| (Euclidean norms)."""
    tokens = len(layer.query)
    group = replace(model.layout.group_of(layer.number), layers=(0,))
    pool = PagedPool(replace(model.layout, groups=(group,)), -(-tokens // _BLOCK), _CPU)
    backend = TorchBackend(pool)
    table = list(range(pool.num_blocks))
    backend.begin(StepBatch([SequenceRows([0] * tokens, 0, table, 1)], _BLOCK, device=_CPU))
    backend.write(0, layer.key, layer.value)
    ours = backend.attend(0, layer.query, layer.options).double()
    return float((ours - reference).norm(dim=-1).mean() / reference.norm(dim=-1).mean())


def _compare(found: list[Tensor], wanted: list[Tensor]) -> dict[str, Any]:
    same = [ours.argmax(-1) == theirs.argmax(-1) for ours, theirs in zip(found, wanted, strict=True)]
    moved = [(ours - theirs).abs().mean() for ours, theirs in zip(found, wanted, strict=True)]
    spread = torch.stack([logits.std(-1).mean() for logits in wanted]).mean()
    return {
        "same_tokens": int(sum(int(each.sum()) for each in same)),
        "same_prompts": sum(bool(each.all()) for each in same),
        "logit_difference_mean": float(torch.stack(moved).mean()),
        "logit_difference_over_spread": float(torch.stack(moved).mean() / spread),
    }


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['kv_dtype']:5} {result['bytes_per_token']:7,} bytes a token   "
        f"attention error {result['attention_error_mean']:.1e}, worst layer "
        f"{result['attention_error_worst_layer']:.1e}   same tokens {result['same_tokens']:4}   "
        f"same prompts {result['same_prompts']:3}   logits move {result['logit_difference_mean']:.4f}, "
        f"{100 * result['logit_difference_over_spread']:.2f} % of their spread",
        flush=True,
    )


if __name__ == "__main__":
    main()
