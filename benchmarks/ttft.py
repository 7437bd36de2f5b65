"""Time to first token of a long cached prefix and a short new tail, hit against miss.

Each round makes up a fresh prefix. Its first prompt (prefix and tail) is a real miss and fills the cache; its
second (the same prefix, another tail of the same length) hits. Rounds alternate miss and hit, so that a
slower spell of the machine meets both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.common import Meter, arguments, model_label, random_ids, set_threads, spread, write_results
from radixcache.engine import Engine, GenerationResult, SamplingParams


def main() -> None:
    """Measure, print and write."""
    parser = arguments("ttft", __doc__)
    parser.add_argument("--prefix", type=int, default=1500, help="tokens in the shared prefix")
    parser.add_argument("--tail", type=int, default=60, help="new tokens after it")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    set_threads(options.threads)
    source = random.Random(options.seed)
    with Engine.from_pretrained(options.model, dtype=options.dtype) as engine:
        vocabulary = int(engine.model.model.config.get_text_config().vocab_size)

        def ids(count: int) -> list[int]:
            return random_ids(source, count, vocabulary)

        _first_token(engine, ids(options.tail), expected=0)  # what a process does once
        misses: list[float] = []
        hits: list[float] = []
        with Meter() as meter:
            for _ in range(options.rounds):
                prefix = ids(options.prefix)
                misses.append(_first_token(engine, prefix + ids(options.tail), expected=0).ttft)
                hit = _first_token(engine, prefix + ids(options.tail), expected=options.prefix)
                hits.append(hit.ttft)
        dtype = str(engine.model.dtype).removeprefix("torch.")
    miss, hit_s = spread(misses), spread(hits)
    ratio = miss["median"] / hit_s["median"]
    _print_row("miss", misses)
    _print_row("hit", hits)
    print(
        f"miss / hit, medians of {options.rounds}: {ratio:.1f}x   (others: {meter.other_cpu_cores:.2f} cores)"
    )
    write_results(
        options.out,
        {
            "model": model_label(options.model),
            "dtype": dtype,
            "threads": options.threads,
            "prefix_tokens": options.prefix,
            "tail_tokens": options.tail,
            "rounds": options.rounds,
            "ttft_miss_s": miss,
            "ttft_hit_s": hit_s,
            "miss_over_hit": ratio,
            "other_cpu_cores": meter.other_cpu_cores,
        },
    )


def _first_token(engine: Engine, prompt: Sequence[int], *, expected: int) -> GenerationResult:
    """Generate one token; a time is only worth something if the cache did what it is timed for."""
    result = engine.submit(prompt, SamplingParams(max_tokens=1)).result()
    # Random prompts may share a first token or two with an earlier one.
    if not expected <= result.cached_tokens <= expected + 2:
        raise SystemExit(f"{result.cached_tokens} tokens came from the cache where {expected} should have")
    return result


def _print_row(name: str, seconds: Sequence[float]) -> None:
    low, middle, high = (1000 * spread(seconds)[key] for key in ("min", "median", "max"))
    print(f"{name:5} {middle:9.1f} ms   ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
