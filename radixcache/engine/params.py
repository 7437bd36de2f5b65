"""How to continue a prompt: lengths, sampling, stops, logprobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to continue a prompt. Every field has a default; the default is greedy.

    Attributes:
        max_tokens: the most tokens to generate.
        temperature: 0 is greedy (the likeliest token each time); logits are divided by it otherwise.
        top_k: sample among the k likeliest tokens; 0 is off.
        top_p: sample among the fewest likeliest tokens that have this much probability together.
        min_p: leave out tokens less likely than this share of the likeliest one's probability.
        repetition_penalty: logits of tokens in prompt or output are divided by it if positive, else
            multiplied; 1 is off.
        presence_penalty: taken from the logit of every token in the output.
        frequency_penalty: taken from the logit of a token as often as it is in the output.
        seed: makes sampling repeatable, whatever else runs at the time; None draws a fresh one.
        n: how many continuations to generate.
        stop: strings that end a continuation, which is cut before them; a single string is accepted too.
            Kept as a tuple.
        stop_token_ids: token ids that end a continuation, beside the model's own. Kept as a tuple.
        min_tokens: end tokens and `stop_token_ids` are not sampled until so many tokens are there.
        ignore_eos: the model's own end tokens are like any other.
        logprobs: if not None, the log-probability of every generated token, and of so many likeliest
            tokens beside it.
        prompt_logprobs: the same for the tokens of the prompt; such a prompt is computed in full.

    Raises:
        ValueError: a value out of range; names the field and the value.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    n: int = 1
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        for field, least in (("max_tokens", 1), ("top_k", 0), ("n", 1), ("min_tokens", 0)):
            _check_int(field, getattr(self, field), least)
        for field in ("logprobs", "prompt_logprobs"):
            if getattr(self, field) is not None:
                _check_int(field, getattr(self, field), 0)
        if self.seed is not None:
            _check_int("seed", self.seed, None)
        for token in self.stop_token_ids:
            _check_int("stop_token_ids", token, 0)
        for field in ("temperature", "min_p", "top_p", "repetition_penalty"):
            _check_number(field, getattr(self, field), least=0.0)
        for field in ("presence_penalty", "frequency_penalty"):
            _check_number(field, getattr(self, field))
        self._check_ranges()

    def _check_ranges(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p!r}")
        if self.min_p > 1:
            raise ValueError(f"min_p must be at most 1, not {self.min_p!r}")
        if self.repetition_penalty == 0:
            raise ValueError("repetition_penalty must be above 0, not 0")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) is above max_tokens ({self.max_tokens})")
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise ValueError(f"stop must be strings that are not empty, not {text!r}")


def _check_int(field: str, value: object, least: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{field} must be an integer, not {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{field} must be at least {least}, not {value!r}")


def _check_number(field: str, value: object, least: float = -math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{field} must be a finite number, not {value!r}")
    if value < least:
        raise ValueError(f"{field} must be at least {least:g}, not {value!r}")
