"""transformers' `generate` in a process of its own, driven over pipes by generate.py.

A process of its own, so that neither engine runs under the settings (BLAS mode, threads) of the other. Reads
lines of JSON `{"prompt": [ids], "max_tokens": n, "suppress": [ids]}` and answers each with a line
`{"ttft_s", "latency_s", "tokens"}`; a first line `{"ready": true}` says that the model is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer


class _FirstToken(BaseStreamer):
    """Notes when the first new token comes; the first call hands over the prompt."""

    def __init__(self) -> None:
        self._calls = 0
        self.at = 0.0

    def put(self, _: Any) -> None:
        self._calls += 1
        if self._calls == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        """Nothing is left to do."""


def main() -> None:
    """Serve requests until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    _answer({"ready": True})
    for line in sys.stdin:
        _answer(_generate(model, json.loads(line)))


def _generate(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    prompt = torch.tensor([request["prompt"]])
    first = _FirstToken()
    begin = time.perf_counter()
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=request["max_tokens"],
        do_sample=False,
        suppress_tokens=request["suppress"],
        eos_token_id=None,
        pad_token_id=0,
        streamer=first,
    )
    end = time.perf_counter()
    tokens = output[0, prompt.shape[1] :].tolist()
    return {"ttft_s": first.at - begin, "latency_s": end - begin, "tokens": tokens}


def _answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
