"""Synthetic request streams that differ in what an eviction policy has to get right.

Each kind is a function of a seed and a number of requests, and returns prompts as packed token ids, in order
of arrival. Kinds in `DESIGN` were looked at while `auto` was designed; those in `HELD_OUT` were not.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Prompt: TypeAlias = "array[int]"
Kind: TypeAlias = "Callable[[int, int], list[Prompt]]"


class Text:
    """Distinct random texts, reproducible from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def text(self, tokens: int) -> Prompt:
        """A text of random ids, at least one."""
        return array("i", self.rng.choices(range(50_000), k=max(1, tokens)))

    def length(self, median: float, spread: float = 0.6) -> int:
        """A log-normal length in tokens."""
        return max(1, round(self.rng.lognormvariate(math.log(median), spread)))

    def texts(self, count: int, median: float, spread: float = 0.6) -> list[Prompt]:
        """`count` texts of log-normal lengths."""
        return [self.text(self.length(median, spread)) for _ in range(count)]

    def poisson(self, mean: float) -> int:
        """Roughly Poisson: a rounded exponential, at least 0."""
        return int(self.rng.expovariate(1 / mean)) if mean else 0


def zipf(count: int, exponent: float) -> list[float]:
    """Weights of ranks 1 to `count`."""
    return [(rank + 1) ** -exponent for rank in range(count)]


# ---------------------------------------------------------------- few documents


def _documents(
    seed: int, requests: int, *, count: int, median: float, exponent: float, question: float
) -> list[Prompt]:
    made = Text(seed)
    system = made.text(64)
    documents = made.texts(count, median)
    weights = zipf(count, exponent)
    return [
        system + made.rng.choices(documents, weights)[0] + made.text(made.length(question))
        for _ in range(requests)
    ]


def faq(seed: int, requests: int) -> list[Prompt]:
    """A few documents by Zipf, each with a question that never comes again."""
    return _documents(seed, requests, count=80, median=400, exponent=0.9, question=30)


def faq_flat(seed: int, requests: int) -> list[Prompt]:
    """More documents of nearly equal popularity and very different lengths."""
    return _documents(seed, requests, count=200, median=250, exponent=0.5, question=20)


def rag(seed: int, requests: int) -> list[Prompt]:
    """Three passages by Zipf, best first, then a question."""
    made = Text(seed)
    system = made.text(100)
    passages = made.texts(150, 120, 0.3)
    weights = zipf(150, 1.0)
    prompts = []
    for _ in range(requests):
        found = made.rng.choices(passages, weights, k=3)
        prompts.append(system + found[0] + found[1] + found[2] + made.text(made.length(25)))
    return prompts


def questions(seed: int, requests: int) -> list[Prompt]:
    """Documents by Zipf; half of the questions are common ones that come again."""
    made = Text(seed)
    documents = made.texts(60, 300)
    asked = [made.texts(10, 20) for _ in documents]
    weights, popular = zipf(60, 0.8), zipf(10, 1.0)
    prompts = []
    for _ in range(requests):
        (at,) = made.rng.choices(range(60), weights)
        common = made.rng.random() < 0.5
        question = made.rng.choices(asked[at], popular)[0] if common else made.text(made.length(20))
        prompts.append(documents[at] + question)
    return prompts


# ---------------------------------------------------------------- agents and chats


def _sessions(
    made: Text,
    requests: int,
    *,
    systems: Sequence[Prompt],
    weights: Sequence[float],
    alive: int,
    turns: float,
    step: float,
) -> list[Prompt]:
    """`alive` sessions at a time, each turn extending the one before; any may be next."""
    prompts: list[Prompt] = []
    live: list[tuple[Prompt, int]] = []
    while len(prompts) < requests:
        while len(live) < alive:
            live.append((made.rng.choices(systems, weights)[0], 1 + made.poisson(turns)))
        at = made.rng.randrange(len(live))
        history, left = live[at]
        history = history + made.text(made.length(step))
        prompts.append(history)
        if left > 1:
            live[at] = (history, left - 1)
        else:
            del live[at]
    return prompts


def agents_short(seed: int, requests: int) -> list[Prompt]:
    """Many agents, a short system prompt each, that make mostly single short calls."""
    made = Text(seed)
    systems = made.texts(120, 90)
    return _sessions(made, requests, systems=systems, weights=zipf(120, 0.7), alive=40, turns=0.6, step=25)


def agents_long(seed: int, requests: int) -> list[Prompt]:
    """A few agents with sessions of many steps, interleaved."""
    made = Text(seed)
    return _sessions(
        made, requests, systems=made.texts(5, 600), weights=zipf(5, 0.5), alive=24, turns=14, step=90
    )


def chats(seed: int, requests: int) -> list[Prompt]:
    """Chats that grow turn by turn under one system prompt; users think for very different times."""
    made = Text(seed)
    system = made.text(200)
    due: list[tuple[float, Prompt]] = []
    prompts = []
    for now in range(requests):
        due.sort(key=lambda waiting: waiting[0])
        if due and due[0][0] <= now:
            _, history = due.pop(0)
        else:
            history = system
        history = history + made.text(made.length(60))
        prompts.append(history)
        if made.rng.random() < 0.7:
            think = made.rng.lognormvariate(math.log(60), 1.2)
            due.append((now + think, history + made.text(made.length(80))))
    return prompts


# ---------------------------------------------------------------- recency, scans and change


def stack(seed: int, requests: int) -> list[Prompt]:
    """What was used last is most likely used next: LRU is right."""
    made = Text(seed)
    live: list[Prompt] = []
    prompts = []
    for _ in range(requests):
        if live and made.rng.random() < 0.75:
            prompt = live.pop(-1 - min(len(live) - 1, made.poisson(12)))
        else:
            prompt = made.text(made.length(160))
        live.append(prompt)
        prompts.append(prompt)
    return prompts


def scans(seed: int, requests: int) -> list[Prompt]:
    """Documents by Zipf, and now and then a batch of long prompts that never come again."""
    made = Text(seed)
    documents = made.texts(60, 250)
    weights = zipf(60, 0.8)
    prompts: list[Prompt] = []
    while len(prompts) < requests:
        for _ in range(150):
            prompts.append(made.rng.choices(documents, weights)[0] + made.text(made.length(20)))
        for _ in range(40):
            prompts.append(made.text(made.length(500)))
    return prompts[:requests]


def phases(seed: int, requests: int) -> list[Prompt]:
    """A kind of its own in each quarter: documents, recency, other documents, agents."""
    quarter = -(-requests // 4)
    parts = (
        faq(seed, quarter),
        stack(seed + 1, quarter),
        faq(seed + 2, quarter),
        agents_short(seed + 3, quarter),
    )
    return [prompt for part in parts for prompt in part][:requests]


def drift(seed: int, requests: int) -> list[Prompt]:
    """Documents whose popularity moves on: every few requests a new one takes the first rank."""
    made = Text(seed)
    documents = made.texts(80, 300)
    weights = zipf(80, 1.0)
    prompts = []
    for number in range(requests):
        if not number % 40:
            documents.insert(0, made.text(made.length(300)))
            documents.pop()
        prompts.append(made.rng.choices(documents, weights)[0] + made.text(made.length(25)))
    return prompts


def loop(seed: int, requests: int) -> list[Prompt]:
    """An evaluation run again and again in one order."""
    made = Text(seed)
    system = made.text(100)
    cases = [system + text for text in made.texts(150, 200)]
    return [cases[number % len(cases)] for number in range(requests)]


def few_shot(seed: int, requests: int) -> list[Prompt]:
    """Tasks one after another, each with examples in common and a question for each request."""
    made = Text(seed)
    prompts: list[Prompt] = []
    tasks = made.texts(12, 700, 0.3)
    while len(prompts) < requests:
        task = made.rng.choice(tasks)
        prompts += [task + made.text(made.length(60)) for _ in range(1 + made.poisson(60))]
    return prompts[:requests]


def tenants(seed: int, requests: int) -> list[Prompt]:
    """Tenants by Zipf, each with a long system prompt and tools, users under them with short histories."""
    made = Text(seed)
    systems = made.texts(50, 500)
    return _sessions(made, requests, systems=systems, weights=zipf(50, 1.1), alive=60, turns=2.5, step=50)


def mixture(seed: int, requests: int) -> list[Prompt]:
    """Documents, chats and single prompts at the same time."""
    made = Text(seed)
    third = -(-requests // 3)
    parts = [
        faq(seed + 1, third),
        chats(seed + 2, third),
        [made.text(made.length(200)) for _ in range(third)],
    ]
    order = [which for which, part in enumerate(parts) for _ in part]
    made.rng.shuffle(order)
    streams = [iter(part) for part in parts]
    return [next(streams[which]) for which in order][:requests]


@dataclass(frozen=True)
class Workload:
    """A kind and the capacities, in blocks of 16 tokens, that are too small for it.

    Attributes:
        make: the prompts from a seed and a number of requests.
        sizes: capacities in blocks.
    """

    make: Kind
    sizes: tuple[int, ...]


DESIGN: dict[str, Workload] = {
    "faq": Workload(faq, (300, 800, 1_500)),
    "agents_short": Workload(agents_short, (150, 400, 800)),
    "stack": Workload(stack, (100, 250, 600)),
    "scans": Workload(scans, (200, 500, 1_000)),
    "chats": Workload(chats, (300, 1_000, 2_500)),
    "phases": Workload(phases, (200, 500, 1_000)),
}
HELD_OUT: dict[str, Workload] = {
    "faq_flat": Workload(faq_flat, (400, 1_000, 2_500)),
    "rag": Workload(rag, (150, 500, 1_500)),
    "questions": Workload(questions, (200, 500, 1_000)),
    "agents_long": Workload(agents_long, (500, 1_000, 2_000)),
    "drift": Workload(drift, (200, 500, 1_000)),
    "loop": Workload(loop, (500, 1_000, 1_700)),
    "few_shot": Workload(few_shot, (100, 250, 450)),
    "tenants": Workload(tenants, (300, 800, 1_500)),
    "mixture": Workload(mixture, (300, 800, 1_500)),
}
