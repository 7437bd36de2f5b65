"""Greedy tokens on real prompts: transformers' generate, ours with the cache off, and ours with it on.

Prompts of 100 to 2,000 tokens, half from each of two logs. A request whose tokens differ is listed with
the place of the first difference and the logit margin there: how far the reference's first choice was
ahead of its second. All three run in float32 in one process, on models loaded separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import arguments, set_threads, write_results
from radixcache import Engine, EngineConfig, SamplingParams, load_model
from radixcache.logs import read_logs
from radixcache.prompts.encode import PromptEncoder

_DATA = Path(__file__).parents[2] / "shared" / "data"
_LOGS = (_DATA / "airline_agent.jsonl.xz", _DATA / "multiturn_chat.jsonl.xz")


def main() -> None:
    """Compare, print and write."""
    parser = arguments("agreement", __doc__)
    parser.add_argument("--log", type=Path, nargs="+", default=list(_LOGS), help="logs, in equal parts")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--max-tokens", type=int, default=16)
    options = parser.parse_args()
    set_threads(options.threads)
    loaded = load_model(options.model, dtype="float32")
    encoder = PromptEncoder(loaded.tokenizer, options.model)
    share = -(-options.prompts // len(options.log))
    prompts = [p for log in options.log for p in islice(_prompts(log, encoder), share)][: options.prompts]
    print(f"{len(prompts)} prompts, {sum(map(len, prompts)):,} tokens")
    params = SamplingParams(max_tokens=options.max_tokens)
    outputs: dict[bool, list[tuple[int, ...]]] = {}
    cached = 0
    for cache in (False, True):
        with Engine(loaded, EngineConfig(cache=cache)) as engine:
            results = engine.generate(prompts, params)
        outputs[cache] = [result.token_ids for result in results]
        cached = sum(result.cached_tokens for result in results)
    reference = load_model(options.model, dtype="float32").model
    differing = []
    for number, prompt in enumerate(prompts):
        theirs, margins = _generate(reference, prompt, options.max_tokens)
        ours = outputs[False][number]
        if ours != theirs:
            pairs = zip(ours, theirs, strict=False)
            place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
            differing.append({"prompt": number, "place": place, "margin": margins[place]})
    identical = sum(a == b for a, b in zip(outputs[False], outputs[True], strict=True))
    print(f"ours equal to generate: {len(prompts) - len(differing)} of {len(prompts)}")
    print(f"cache on equal to off:  {identical} of {len(prompts)} ({cached:,} tokens reused)")
    for entry in differing:
        print(f"  prompt {entry['prompt']} differs at {entry['place']}: margin {entry['margin']:.2e}")
    write_results(
        options.out,
        {
            "prompts": len(prompts),
            "prompt_tokens": sum(map(len, prompts)),
            "cached_tokens": cached,
            "equal_to_generate": len(prompts) - len(differing),
            "on_equal_to_off": identical,
            "differing": differing,
        },
    )


def _prompts(log: Path, encoder: PromptEncoder) -> Iterator[list[int]]:
    for entry in read_logs([str(log)]):
        ids = encoder.encode(entry)
        if 100 <= len(ids) <= 2000:
            yield ids.tolist()


def _generate(model: Any, prompt: list[int], max_tokens: int) -> tuple[tuple[int, ...], list[float]]:
    """Tokens of transformers' generate, and the margin of each choice over the second."""
    out = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=2,
        output_logits=True,
        return_dict_in_generate=True,
    )
    margins = []
    for logits in out.logits:
        first, second = logits[0].topk(2).values.tolist()
        margins.append(first - second)
    return tuple(out.sequences[0, len(prompt) :].tolist()), margins


if __name__ == "__main__":
    main()
