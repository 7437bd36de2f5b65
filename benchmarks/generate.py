"""Prefill, decode and throughput against transformers' `generate`: the same model, prompts and dtype.

Every round takes fresh random prompts and times both engines on them one right after the other: prefill (a
long prompt, one new token), decode (a short prompt, seconds per token after the first), and throughput (so
many requests: at once in our engine, one by one in `generate`). Both start cold: our cache is emptied before
each measurement. `generate` runs in a process of its own and sleeps while we run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from benchmarks.common import Meter, arguments, model_label, random_ids, set_threads, spread, write_results

_ENVIRONMENT = dict(os.environ)  # before our engine asks for its own BLAS mode

from radixcache.engine import Engine, SamplingParams  # noqa: E402
from radixcache.models import EMBEDDED_MODEL  # noqa: E402

_NAMES = ("radixcache", "transformers")


class Timed(NamedTuple):
    """One request: seconds to the first token and to the last, and the tokens."""

    ttft_s: float
    latency_s: float
    tokens: list[int]

    @property
    def per_token_s(self) -> float:
        """Seconds for each token after the first."""
        return (self.latency_s - self.ttft_s) / max(1, len(self.tokens) - 1)


class Contestant(Protocol):
    """Greedy generation with a cold cache, as the engine does it best."""

    def run(self, prompts: Sequence[list[int]], max_tokens: int) -> list[Timed]: ...


class Ours:
    """All prompts at once through our engine."""

    def __init__(self, engine: Engine, suppress: Sequence[int]) -> None:
        self._engine = engine
        self._suppress = tuple(suppress)

    def run(self, prompts: Sequence[list[int]], max_tokens: int) -> list[Timed]:
        self._engine.reset_cache()
        params = SamplingParams(
            max_tokens=max_tokens, min_tokens=max_tokens, stop_token_ids=self._suppress, ignore_eos=True
        )
        handles = [self._engine.submit(prompt, params) for prompt in prompts]
        results = [handle.result() for handle in handles]
        return [Timed(r.ttft, r.latency, list(r.token_ids)) for r in results]


class Transformers:
    """One prompt after the other through `generate`."""

    def __init__(self, model: str, dtype: str, threads: int, suppress: Sequence[int]) -> None:
        command = [sys.executable, "-m", "benchmarks.generate_worker"]
        command += ["--model", model, "--dtype", dtype, "--threads", str(threads)]
        self._suppress = list(suppress)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT
        )
        self._read()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def run(self, prompts: Sequence[list[int]], max_tokens: int) -> list[Timed]:
        return [self._one(prompt, max_tokens) for prompt in prompts]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _one(self, prompt: list[int], max_tokens: int) -> Timed:
        request = {"prompt": prompt, "max_tokens": max_tokens, "suppress": self._suppress}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return Timed(answer["ttft_s"], answer["latency_s"], answer["tokens"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"transformers' process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(slots=True)
class Measured:
    """Measurements by engine, in the order of the rounds."""

    prefill_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _NAMES})
    per_token_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _NAMES})
    tokens_per_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _NAMES})
    outputs: int = 0
    equal_outputs: int = 0

    def count(self, first: Sequence[Timed], second: Sequence[Timed]) -> None:
        """Compare what the two engines generated."""
        self.outputs += len(first)
        self.equal_outputs += sum(a.tokens == b.tokens for a, b in zip(first, second, strict=True))


def main() -> None:
    """Measure, print and write."""
    parser = arguments("generate", __doc__)
    parser.add_argument("--prefill-tokens", type=int, default=1500, help="prompt of the prefill measurement")
    parser.add_argument("--prompt-tokens", type=int, default=200, help="prompts of the other two")
    parser.add_argument("--new-tokens", type=int, default=64, help="new tokens of the other two")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    set_threads(options.threads)
    with Engine.from_pretrained(options.model, dtype=options.dtype) as engine:
        text = engine.model.model.config.get_text_config()
        suppress = sorted(engine.model.eos_token_ids)
        dtype = str(engine.model.dtype).removeprefix("torch.")
        peer = Transformers(_folder(options.model), dtype, options.threads, suppress)
        contestants: dict[str, Contestant] = {"radixcache": Ours(engine, suppress), "transformers": peer}
        source = random.Random(options.seed)
        shape = (options.prefill_tokens, options.prompt_tokens, options.new_tokens, options.concurrency)
        try:
            _round(contestants, source, int(text.vocab_size), (64, 64, 4, 2), Measured())  # warm-up
            measured = Measured()
            with Meter([peer.pid]) as meter:
                for number in range(options.rounds):
                    ordered = _in_turn(contestants, number)
                    _round(ordered, source, int(text.vocab_size), shape, measured)
        finally:
            peer.close()
    ratios = _print(measured, options.concurrency, meter.other_cpu_cores)
    write_results(
        options.out,
        {
            "model": model_label(options.model),
            "dtype": dtype,
            "threads": options.threads,
            "rounds": options.rounds,
            "prefill_tokens": options.prefill_tokens,
            "prompt_tokens": options.prompt_tokens,
            "new_tokens": options.new_tokens,
            "concurrency": options.concurrency,
            "prefill_s": {name: spread(measured.prefill_s[name]) for name in _NAMES},
            "per_token_s": {name: spread(measured.per_token_s[name]) for name in _NAMES},
            "tokens_per_s": {name: spread(measured.tokens_per_s[name]) for name in _NAMES},
            "speedup": ratios,
            "equal_outputs": measured.equal_outputs,
            "outputs": measured.outputs,
            "other_cpu_cores": meter.other_cpu_cores,
        },
    )


def _folder(model: str) -> str:
    """Where `generate` finds the weights that our engine runs."""
    if model != EMBEDDED_MODEL:
        return model
    from radixcache.models.embedded import embedded_folder

    return str(embedded_folder(print))


def _in_turn(contestants: Mapping[str, Contestant], number: int) -> dict[str, Contestant]:
    """The contestants, the other one first in every second round."""
    names = _NAMES if number % 2 == 0 else _NAMES[::-1]
    return {name: contestants[name] for name in names}


def _round(
    contestants: Mapping[str, Contestant],
    source: random.Random,
    vocabulary: int,
    shape: tuple[int, int, int, int],
    measured: Measured,
) -> None:
    prefill_tokens, prompt_tokens, new_tokens, concurrency = shape
    long = [random_ids(source, prefill_tokens, vocabulary)]
    results = {name: contestant.run(long, 1) for name, contestant in contestants.items()}
    for name, timed in results.items():
        measured.prefill_s[name].append(timed[0].latency_s)
    measured.count(results[_NAMES[0]], results[_NAMES[1]])

    short = [random_ids(source, prompt_tokens, vocabulary)]
    results = {name: contestant.run(short, new_tokens) for name, contestant in contestants.items()}
    for name, timed in results.items():
        measured.per_token_s[name].append(timed[0].per_token_s)
    measured.count(results[_NAMES[0]], results[_NAMES[1]])

    many = [random_ids(source, prompt_tokens, vocabulary) for _ in range(concurrency)]
    results = {}
    for name, contestant in contestants.items():
        begin = time.perf_counter()
        results[name] = contestant.run(many, new_tokens)
        measured.tokens_per_s[name].append(concurrency * new_tokens / (time.perf_counter() - begin))
    measured.count(results[_NAMES[0]], results[_NAMES[1]])


def _print(measured: Measured, concurrency: int, other_cores: float) -> dict[str, float]:
    """A table of medians; the ratios, above 1 where we are faster."""
    rows = (
        ("prefill, ms", "prefill", measured.prefill_s, 1000.0, False),
        ("decode, ms a token", "decode", measured.per_token_s, 1000.0, False),
        (f"{concurrency} requests, new tokens/s", "throughput", measured.tokens_per_s, 1.0, True),
    )
    ratios: dict[str, float] = {}
    print(f"{'medians':28}{_NAMES[0]:>14}{_NAMES[1]:>14}{'speedup':>10}")
    for label, key, values, scale, higher_is_better in rows:
        ours, theirs = (spread(values[name])["median"] for name in _NAMES)
        ratios[key] = ours / theirs if higher_is_better else theirs / ours
        print(f"{label:28}{scale * ours:14.1f}{scale * theirs:14.1f}{ratios[key]:9.2f}x")
    print(
        f"equal outputs: {measured.equal_outputs} of {measured.outputs}   (others: {other_cores:.2f} cores)"
    )
    return ratios


if __name__ == "__main__":
    main()
