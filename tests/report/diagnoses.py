"""A report of the doctor, made by hand: everything occurs in it, and it is as long as one likes."""

from __future__ import annotations

import random
from typing import Any

from radixcache.doctor.diagnosis.schema import CAUSES

__all__ = ["doctor"]


def side(source: str, line: int, differs: str) -> dict[str, Any]:
    before = "You are the booking desk of Example Air.\nToday is "
    after = ".\n\nAlways answer in the customer's language.\n"
    return {"source": source, "line": line, "token": 12, "before": before, "differs": differs, "after": after}


def finding(kind: str, lost: int, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": f"{kind}-1",
        "kind": kind,
        "title": f"A title of {kind}",
        "advice": "Move the date behind the part of the prompt that stays the same.",
        "where": {"part": "system", "message": None, "role": None, "line": 2},
        "requests": 40,
        "tokens_lost": lost,
        "gain_tokens": None,
        "hit_rate_after": None,
        "prefill_s": None,
        "money": None,
        "edit": None,
        "examples": [],
        "sampled": False,
    }
    return found | more


def tree(depth: int, rng: random.Random, requests: int) -> list[dict[str, Any]]:
    root = {"parent": None, "tokens": 0, "requests": requests, "text": "", "reused_tokens": 0, "folded": 0}
    nodes = [root]

    def grow(parent: int, depth: int, requests: int) -> None:
        tokens = rng.randint(20, 900)
        node = {
            "parent": parent,
            "tokens": tokens,
            "requests": requests,
            "text": f"piece of a prompt of {requests} requests",
            "reused_tokens": tokens * (requests - 1),
            "folded": 0 if depth or rng.random() < 0.8 else 7,
        }
        place = len(nodes)
        nodes.append(node)
        left = requests
        for _ in range(5):
            if depth and left > 3:
                part = rng.randint(1, left)
                grow(place, depth - 1, part)
                left -= part

    for _ in range(4):
        grow(0, depth, 400)
    return nodes


def doctor(requests: int = 120, seed: int = 1) -> dict[str, Any]:
    """A report of the doctor in which everything occurs."""
    rng = random.Random(seed)
    causes = ("diverged", "never_seen", "evicted", "partial_block")
    rows = []
    for index in range(requests):
        prompt = rng.randint(200, 4000)
        cached = rng.randint(0, prompt - 1)
        rows.append(
            [
                "logs/support.jsonl",
                index + 1,
                f"session-{index // 6}",
                1_700_000_000.0 + 3 * index,
                "",
                prompt,
                cached,
                rng.randint(1, 300),
                causes[rng.randrange(4)],
                "system",
                rng.randint(0, cached),
                "logs/support.jsonl",
                max(1, index - 4),
            ]
        )
    prompt, cached = (sum(row[place] for row in rows) for place in (5, 6))
    missed = dict.fromkeys(CAUSES, 0)
    for row in rows:
        missed[row[8]] += row[5] - row[6]
    size = -(-requests // 200)
    buckets = [rows[start : start + size] for start in range(0, requests, size)]
    money = {"currency": "USD", "amount": 1.25}
    volatile = finding(
        "volatile_text",
        missed["diverged"],
        gain_tokens=missed["diverged"] - 100,
        hit_rate_after=(cached + missed["diverged"] - 100) / prompt,
        prefill_s=61.5,
        money=money,
        edit={"what_if": "move:Today is [0-9-]+:end", "description": "Move the date to the end."},
        examples=[
            {"left": side("logs/support.jsonl", 3, "2026-11-20"), "right": side("logs/support.jsonl", 9, "")}
        ],
    )
    points = [
        {
            "capacity_blocks": 2**step,
            "hit_rate": min(0.62, 0.02 * step**1.7),
            "clairvoyant_hit_rate": min(0.7, 0.03 * step**1.7) if step % 2 else None,
        }
        for step in range(12)
    ]
    return {
        "schema": "radixcache.doctor/2",
        "logs": ["logs/support.jsonl"],
        "requests": requests,
        "sessions": -(-requests // 6),
        "bad_lines": 2,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "hit_rate": cached / prompt,
        "missed_tokens": missed,
        "settings": {
            "tokenizer": "smollm2-135m",
            "block_size": 16,
            "capacity_blocks": 4096,
            "policy": "lru",
            "namespace_by": None,
            "interleave": None,
        },
        "findings": [volatile, finding("reordered", missed["diverged"] // 3), finding("capacity", 900)],
        "timeline": [
            {
                "request": number * size,
                "timestamp": part[0][3],
                "prompt_tokens": sum(row[5] for row in part),
                "cached_tokens": sum(row[6] for row in part),
            }
            for number, part in enumerate(buckets)
        ],
        "curve": {"block_size": 16, "points": points, "knee": points[8]},
        "tree": {"nodes": tree(5, rng, requests)},
        "table": {
            "columns": [
                "source",
                "line",
                "session",
                "timestamp",
                "namespace",
                "prompt_tokens",
                "cached_tokens",
                "output_tokens",
                "cause",
                "part",
                "token",
                "earlier_source",
                "earlier_line",
            ],
            "rows": rows,
        },
        "what_if": {
            "edits": ["drop:Today is [0-9-]+"],
            "prompt_tokens": prompt - 90,
            "cached_tokens": cached + 50,
            "hit_rate": (cached + 50) / (prompt - 90),
            "gain_tokens": 140,
        },
        "pricing": pricing(prompt, cached),
        "versions": {"python": "3.11.9", "radixcache": "0.1.0"},
    }


def pricing(prompt: int, cached: int) -> dict[str, Any]:
    provider = {
        "name": "Claude Opus 5, 5 minutes",
        "cost": 3.5,
        "uncached": 12.0,
        "saved": 8.5,
        "saved_share": 8.5 / 12,
        "cached_tokens": cached,
        "written_tokens": prompt - cached,
        "plain_tokens": 0,
        "output_tokens": 10,
        "cost_input": 0.0,
        "cost_reads": 1.0,
        "cost_writes": 2.4,
        "cost_output": 0.1,
        "rules": "from 512 tokens, kept 5 minutes after use",
        "as_of": "2026-10-25",
        "source": "https://prices.example",
        "rules_source": "",
        "note": "",
    }
    return {
        "currency": "USD",
        "uncached": 12.0,
        "prompt_tokens": prompt,
        "output_tokens": 10,
        "providers": [
            provider,
            provider | {"name": "house", "cost": 15.0, "saved": -3.0, "saved_share": -0.25},
        ],
        "self_hosted": None,
        "assumptions": ["Answers are not cached."],
    }
