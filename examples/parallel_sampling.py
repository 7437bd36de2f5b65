"""Several answers to one prompt: computed once, forked, blocks shared until they differ.

python examples/parallel_sampling.py --prompt "Write a slogan for a bicycle shop." -n 4
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from radixcache import Engine, GenerationResult, RadixCacheError, SamplingParams


def main(
    model: Annotated[str, typer.Option(help="The embedded model, a folder, a GGUF file or a hub name.")] = (
        "smollm2-135m"
    ),
    prompt: Annotated[str, typer.Option(help="What to continue.")] = (
        "Advertisements for a small bicycle shop that repairs old bikes, rents e-bikes by the day and "
        "teaches children to ride on Sunday mornings. Today's slogan:"
    ),
    n: Annotated[int, typer.Option("-n", min=1, max=64, help="How many continuations.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most new tokens of each.")] = 40,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(help="The same seed gives the same continuations.")] = 7,
) -> None:
    """Sample several continuations of one prompt and say what they shared."""
    try:
        params = SamplingParams(n=n, max_tokens=max_tokens, temperature=temperature, seed=seed)
        with Engine.from_pretrained(model) as engine:
            sample(engine, prompt, params)
    except (RadixCacheError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def sample(engine: Engine, prompt: str, params: SamplingParams) -> GenerationResult:
    """Print the continuations, and the blocks that they hold against blocks for each alone.

    The engine is to be idle: the blocks counted are those taken since the call.
    """
    before = engine.stats()
    (result,) = engine.generate(prompt, params)
    after = engine.stats()

    for completion in result.completions:
        text = "".join(c if c.isprintable() else " " for c in completion.text)
        print(f"[{completion.index}] {text.strip()} ({completion.finish_reason})")

    # The last token of each was sampled and never computed, so it has no KV.
    held = [result.prompt_tokens + len(completion.token_ids) - 1 for completion in result.completions]
    separate = sum(-(-tokens // engine.config.block_size) for tokens in held)
    together = before.cache.free_blocks - after.cache.free_blocks
    print(
        f"{params.n} continuations of {result.prompt_tokens} tokens: "
        f"{after.prefill_tokens - before.prefill_tokens} prompt tokens computed, "
        f"{result.prompt_tokens * params.n} without forking"
    )
    print(
        f"{together} blocks of {engine.config.block_size} tokens hold them all, {separate} would separately"
    )
    return result


if __name__ == "__main__":
    typer.run(main)
