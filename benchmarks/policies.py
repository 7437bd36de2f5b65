"""Every eviction policy on real logs and synthetic workloads, beside LRU and the clairvoyant bound.

    python -m benchmarks.policies --data DIR --out benchmarks/results/policies.json
    python -m benchmarks.policies --synthetic

Text is tokenised by the embedded model's tokenizer. Logs with sessions are interleaved 32 at a time; others
keep their order. Hits are counted by the rule of published hit rates: whole blocks of prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from xxhash import xxh3_64

from benchmarks.policy_workloads import DESIGN, HELD_OUT, Prompt
from radixcache.cache.eviction import policies
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.logs import read_logs
from radixcache.logs.folders import expand_folders
from radixcache.models.tokenizing import load_tokenizer
from radixcache.prompts.encode import PromptEncoder
from radixcache.simulate.clairvoyant import clairvoyant_hits
from radixcache.simulate.results import CLAIRVOYANT, SimulateResult
from radixcache.simulate.simulate import Caches, simulate
from radixcache.tokens import TOKEN_BYTES
from radixcache.workload.load import load_workload
from radixcache.workload.settings import SimulateSettings
from radixcache.workload.workload import Workload

MODEL = "smollm2-135m"
SESSIONS = 32
LOGS: dict[str, tuple[int, ...]] = {
    "mooncake_conversation.jsonl.xz": (1_000, 3_000, 10_000),
    "weka": (4_000, 10_000),
    "miniswe.jsonl.xz": (2_000, 4_000),
    "airline_agent.jsonl.xz": (1_000, 4_000),
    "multiturn_chat.jsonl.xz": (300, 1_000),
    "bbh_fewshot.jsonl.xz": (500, 2_000),
    "gsm8k_8shot.jsonl.xz": (80, 120),
}
"""Sizes in blocks, tight for each log."""

SYNTHETIC_BLOCK = 16

app = typer.Typer(add_completion=False)


def load(path: Path) -> Workload:
    """A log in memory, text tokenised."""
    requests = read_logs(expand_folders([str(path)]), trace_block=512)
    return load_workload(requests, lambda: PromptEncoder(load_tokenizer(MODEL), MODEL))


def rows(name: str, workload: Workload, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """One row a size and policy, LRU first and the bound last."""
    interleave = SESSIONS if any(call.session for call in workload.calls) else None
    settings = SimulateSettings(interleave=interleave, whole_blocks=True)
    for size in sizes:
        names = ("lru", *(policy for policy in policies if policy != "lru"), CLAIRVOYANT)
        found: list[SimulateResult] = []
        for policy in names:
            found += simulate(workload, Caches((policy,), (size,)), settings).report.results
        lowest, highest = (found[i].cached_tokens_whole_blocks for i in (0, -1))
        for result in found:
            more = result.cached_tokens_whole_blocks - lowest
            yield {
                "log": name,
                "interleave": interleave,
                "capacity_blocks": size,
                "block_size": result.block_size,
                "policy": result.policy,
                "hit_rate": round(result.hit_rate_whole_blocks, 6),
                "cached_tokens": result.cached_tokens_whole_blocks,
                "prompt_tokens": result.prompt_tokens,
                "over_lru": round(more / lowest, 4) if lowest else None,
                "gap_closed": round(more / (highest - lowest), 4) if highest > lowest else None,
            }


def synthetic(prompts: Sequence[Prompt], size: int, policy: str) -> int:
    """Tokens reused by prompts one after another in `size` blocks; longer prompts are refused."""
    cache = PrefixCache(size, SYNTHETIC_BLOCK, policy=policy, explain=False)
    hits = 0
    for prompt in prompts:
        if len(prompt) > size * SYNTHETIC_BLOCK:
            continue
        with cache.acquire(prompt) as lease:
            hits += lease.num_cached_tokens
            lease.commit(lease.num_tokens)
    return hits


def clairvoyant(prompts: Sequence[Prompt], size: int) -> int:
    """The most tokens that whole blocks could give."""
    ids: dict[int, int] = {}
    references = []
    for prompt in prompts:
        digest, packed, width = xxh3_64(), prompt.tobytes(), SYNTHETIC_BLOCK * TOKEN_BYTES
        blocks = []
        for start in range(0, len(packed) // width * width, width):
            digest.update(packed[start : start + width])
            blocks.append(ids.setdefault(digest.intdigest(), len(ids)))
        references.append(blocks)
    return clairvoyant_hits(references, size) * SYNTHETIC_BLOCK


def print_synthetic(only: str, requests: int, seed: int, *, every_size: bool) -> None:
    """A Markdown table: the hit rate of LRU, and hits of the others divided by those of LRU."""
    names = [policy for policy in policies if policy != "lru"]
    print(f"| kind | blocks | lru | {' | '.join(names)} | {CLAIRVOYANT} |")
    print("|---" * (len(names) + 4) + "|")
    for name, workload in {**DESIGN, **HELD_OUT}.items():
        if only not in name:
            continue
        prompts = workload.make(seed, requests)
        total = sum(map(len, prompts))
        title = name if name in DESIGN else name + "*"
        for size in workload.sizes if every_size else workload.sizes[1:2]:
            lru = synthetic(prompts, size, "lru")
            hits = [*(synthetic(prompts, size, policy) for policy in names), clairvoyant(prompts, size)]
            ratios = " | ".join(f"{found / lru:.3f}" if lru else "" for found in hits)
            print(f"| {title} | {size:,} | {100 * lru / total:.1f} % | {ratios} |", flush=True)


@app.command()
def main(
    data: Annotated[Path | None, typer.Option(help="Where the logs are.")] = None,
    generate: Annotated[bool, typer.Option("--synthetic", help="Synthetic workloads instead.")] = False,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a synthetic workload.")] = 2500,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic workloads.")] = 1,
    every_size: Annotated[bool, typer.Option(help="Three capacities a synthetic workload.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the rows as JSON.")] = None,
    only: Annotated[str, typer.Option(help="Logs whose names contain this.")] = "",
) -> None:
    """Print hit rates, and of what lies between LRU and the clairvoyant bound the share that each gets."""
    if generate:
        print_synthetic(only, requests, seed, every_size=every_size)
        return
    if data is None:
        raise typer.BadParameter("--data or --synthetic is required")
    everything: list[dict[str, Any]] = []
    print(f"{'log':<22} {'blocks':>7} {'policy':<12} {'hit rate':>9} {'gap':>8} {'over LRU':>9}")
    for name, sizes in LOGS.items():
        if only not in name or not (data / name).exists():
            continue
        title = name.split(".")[0]
        for row in rows(title, load(data / name), sizes):
            everything.append(row)
            gap, over = (
                "" if row[key] is None else f"{100 * row[key]:+.1f} %" for key in ("gap_closed", "over_lru")
            )
            print(
                f"{title:<22} {row['capacity_blocks']:>7,} {row['policy']:<12} "
                f"{100 * row['hit_rate']:>7.2f} % {gap:>8} {over:>9}",
                flush=True,
            )
    if out is not None:
        out.write_text(json.dumps({"schema": "radixcache.policies/1", "rows": everything}, indent=1) + "\n")


if __name__ == "__main__":
    app()
