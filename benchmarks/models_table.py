"""Every causal model type of transformers through the engine: served right, or refused with the reason.

A tiny random model of each type is saved to a folder, loaded, and asked greedily: with the prefix cache off
and prompts in pieces, and on, where a long prefix is cached. Both must give the tokens of transformers' own
forward pass without any cache. Types are tried in a process of their own, which is replaced when one hangs
or kills it. Writes docs/models.md.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, NamedTuple

import torch
import transformers
from transformers.utils import logging as hf_logging

from benchmarks.tiny_types import VOCABULARY, causal_types, tiny_config, tiny_model
from radixcache import Engine, EngineConfig, SamplingParams
from radixcache.errors import ModelError
from radixcache.models import load_model

__all__ = ["Outcome", "main", "try_type"]

WORKS, REFUSED, NOT_TRIED, WRONG = "works", "refused", "not tried", "wrong"
_LENGTHS, _NEW, _TAIL = (37, 90), 8, 6
_TIE = 1e-3  # of the spread of logits: below, either of two tokens is right
_LIMIT_S = 300
_VARIANTS: dict[str, dict[str, Any]] = {
    "bert": {"is_decoder": True},
    "roberta": {"is_decoder": True},
    "gemma3_text": {"use_bidirectional_attention": True},
    "qwen2": {"use_sliding_window": True},
    "gemma4_text": {"global_head_dim": 16},
    "llama4_text": {"layer_types": ["full_attention"] * 4},
}
"""Settings of some types that change how they attend, tried besides the defaults."""


class Outcome(NamedTuple):
    """What became of a type.

    Attributes:
        kind: its name, with the settings that are not the defaults.
        result: one of the four words above.
        reason: why, where it is not served.
    """

    kind: str
    result: str
    reason: str


def try_type(kind: str, changes: dict[str, Any]) -> Outcome:
    """Build, load, serve and compare a type."""
    settings = ", ".join(f"{name}={value}" for name, value in changes.items() if not isinstance(value, list))
    shown = f"{kind} ({settings})" if settings else kind
    try:
        config = tiny_config(kind, **changes)
        model = tiny_model(config)
    except Exception as error:
        return Outcome(shown, *_of_configuration(kind, error))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        try:
            return Outcome(shown, *_serve(folder, model))
        except ModelError as error:
            if "\n" in str(error):
                return Outcome(shown, WRONG, f"an error of several lines: {str(error).splitlines()[0]}")
            return Outcome(shown, REFUSED, _plain(str(error), folder, kind))
        except Exception:
            return Outcome(shown, WRONG, traceback.format_exc().strip().splitlines()[-1][:100])


def _of_configuration(kind: str, error: Exception) -> tuple[str, str]:
    """Of a type that cannot be made small its configuration may be enough to refuse it."""
    cls: Any = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]
    with tempfile.TemporaryDirectory() as folder:
        try:
            cls().save_pretrained(folder)
            load_model(folder, device="cpu", dtype="float32")
        except ModelError as refusal:
            if "cannot be loaded" not in str(refusal):
                return REFUSED, _plain(str(refusal), folder, kind)
        except Exception as failure:  # transformers' own, of a configuration that it does not take itself
            error = failure
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return NOT_TRIED, f"no tiny model can be made: {line[:100]}"


def _serve(folder: str, reference: Any) -> tuple[str, str]:
    loaded = load_model(folder, device="cpu", dtype="float32")
    Engine(loaded, EngineConfig(cache_tokens=4096)).close()
    prompts = _prompts()
    expected = [_greedy(reference, prompt) for prompt in prompts]
    params = SamplingParams(max_tokens=_NEW, ignore_eos=True)
    for name, config in (
        ("in pieces", {"cache": False, "max_batch_tokens": 16}),
        ("with a cached prefix", {"cache": True}),
    ):
        with Engine(loaded, EngineConfig(cache_tokens=4096, **config)) as engine:
            for prompt, (tokens, clear) in zip(prompts, expected, strict=True):
                if config["cache"]:
                    engine.generate([[*prompt[:-_TAIL], *reversed(prompt[-_TAIL:])]], params)
                (result,) = engine.generate([prompt], params)
                if list(result.token_ids[:clear]) != tokens[:clear]:
                    return WRONG, f"other tokens than transformers {name}"
                if config["cache"] and not result.cached_tokens:
                    return WRONG, "nothing was reused"
    try:
        Engine(load_model(folder, device="cpu", dtype="bfloat16"), EngineConfig(cache_tokens=4096)).close()
    except ModelError as error:
        return WRONG, f"served in float32, but refused in bfloat16: {error}"
    return WORKS, ""


def _prompts() -> list[list[int]]:
    source = random.Random(0)
    return [[source.randrange(3, VOCABULARY) for _ in range(length)] for length in _LENGTHS]


@torch.inference_mode()
def _greedy(model: Any, prompt: list[int]) -> tuple[list[int], int]:
    """Tokens by whole forward passes, and how many of them are clear: before the first tie of two."""
    ids, clear = list(prompt), _NEW
    for step in range(_NEW):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
        first, second = logits.topk(2).values.tolist()
        if first - second < _TIE * float(logits.std()):
            clear = min(clear, step)
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :], clear


def _plain(message: str, folder: str, kind: str) -> str:
    """A refusal without the name of the model that it begins with."""
    for start in (f"{folder}: ", f"{kind} "):
        message = message.removeprefix(start)
    return message


def _work() -> None:
    """Try the types named on standard input, one a line, and print each outcome as JSON."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    library: Any = hf_logging  # partly annotated
    library.set_verbosity_error()
    library.disable_progress_bar()
    for line in sys.stdin:
        kind, changes = json.loads(line)
        print(json.dumps(try_type(kind, changes)), flush=True)


class _Worker:
    """A process that tries types."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.models_table", "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: Queue[str | None] = Queue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def ask(self, kind: str, changes: dict[str, Any]) -> Outcome | None:
        """What became of a type; None if the process died of it or took too long."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([kind, changes]) + "\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=_LIMIT_S)
        except Empty:
            line = None
        return None if line is None else Outcome(*json.loads(line))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def _outcomes(kinds: list[str], jobs: int) -> Iterator[Outcome]:
    """What became of each, as it is known."""
    cases: Queue[tuple[str, dict[str, Any]]] = Queue()
    for kind in kinds:
        for changes in ({}, _VARIANTS[kind]) if kind in _VARIANTS else ({},):
            cases.put((kind, changes))
    found: Queue[Outcome | None] = Queue()

    def try_cases() -> None:
        worker = _Worker()
        while True:
            try:
                kind, changes = cases.get_nowait()
            except Empty:
                break
            outcome = worker.ask(kind, changes)
            if outcome is None:
                worker.end()
                worker = _Worker()
                outcome = Outcome(kind, WRONG, f"the process died or took more than {_LIMIT_S} s")
            found.put(outcome)
        worker.end()
        found.put(None)

    for _ in range(jobs):
        Thread(target=try_cases, daemon=True).start()
    running = jobs
    while running:
        outcome = found.get()
        if outcome is None:
            running -= 1
        else:
            yield outcome


def _document(outcomes: list[Outcome]) -> str:
    words = (WORKS, REFUSED, NOT_TRIED, WRONG)
    by = {word: [item for item in outcomes if item.result == word] for word in words}
    lines = [
        "# Models that can be served",
        "",
        f"Every type for which transformers {transformers.__version__} has a causal language model, tried as "
        "a tiny random model in float32 on a CPU: greedy tokens with prompts in pieces and with a cached "
        "prefix against transformers' own forward pass, and whether it is accepted in bfloat16, too. "
        "Written by `python -m benchmarks.models_table`.",
        "",
        "A model is tried again whenever an engine is made of it: two short random prompts through a small "
        "pool against the model's own forward pass. A type that is missing here, or a setting that changes "
        "how a type attends, is so found out before the first request. `ModelError` says in one line what is "
        "in the way. Python code that comes with a model is never run.",
        "",
        f"{len(by[WORKS])} work, {len(by[REFUSED])} are refused, {len(by[NOT_TRIED])} could not be tried.",
        "",
        "## Works",
        "",
        ", ".join(f"`{item.kind}`" for item in by[WORKS]),
        "",
        "## Refused",
        "",
        "| Type | Reason |",
        "| --- | --- |",
        *(_row(item) for item in by[REFUSED]),
    ]
    for word, title in ((NOT_TRIED, "Not tried"), (WRONG, "Wrong")):
        if by[word]:
            lines += ["", f"## {title}", "", "| Type | Reason |", "| --- | --- |", *map(_row, by[word])]
    return "\n".join([*lines, ""])


def _row(item: Outcome) -> str:
    return f"| `{item.kind}` | {item.reason.replace('|', '/')} |"


def main() -> int:
    """Try the types named, or all of them; status 1 if any was answered wrongly or not in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("types", nargs="*", help="only these; nothing is written then")
    parser.add_argument("--out", type=Path, default=Path("docs/models.md"))
    parser.add_argument("--jobs", type=int, default=2, help="types tried at a time (2)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work()
        return 0
    outcomes = []
    for outcome in _outcomes(options.types or causal_types(), options.jobs):
        print(f"{outcome.kind}: {outcome.result}{': ' * bool(outcome.reason)}{outcome.reason}", flush=True)
        outcomes.append(outcome)
    if not options.types:
        options.out.write_text(_document(sorted(outcomes)))
    wrong = [item.kind for item in outcomes if item.result == WRONG]
    if wrong:
        print(f"wrong: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
