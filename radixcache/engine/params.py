"""Sampling parameters: lengths, sampling, stops, logprobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radixcache.ranges import check_bool, check_int, is_number
from radixcache.tokens import TOKEN_LIMIT

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: all but the most likely token have negligible probability."""
MAX_COMPLETIONS = 16384
"""The largest `n`."""
AllowedTokens = Callable[[int, Sequence[int]], Any]
"""Type of `SamplingParams.allowed`."""
_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters. Every field has a default; the default is greedy.

    A row of logits is changed in this order: repetition penalty, frequency and presence penalties,
    `logit_bias`, then tokens that `min_tokens` or `allowed` rules out. Temperature, top-k, top-p and min-p
    follow. Tokens are ranked by logit, the lower id first among equals.

    Attributes:
        max_tokens: the most tokens to generate.
        temperature: logits are divided by it; 0, or anything below 1e-5, is greedy (always the most likely
            token).
        top_k: sample among the k most likely tokens; 0 is off.
        top_p: sample among the fewest most likely tokens that have this much probability together.
        min_p: leave out tokens less likely than this share of the most likely one's probability.
        repetition_penalty: logits of tokens in prompt or output are divided by it if positive, else
            multiplied; 1 is off.
        presence_penalty: subtracted from the logit of every token in the output.
        frequency_penalty: subtracted from the logit of a token once for each time it is in the output.
        logit_bias: token id -> number added to its logit. Ids outside the model's vocabulary are
            refused when the request is submitted. A mapping or pairs; kept as a tuple of pairs by id.
        allowed: which tokens may come next, for grammars. Called as `allowed(index, output_ids)` before each
            token, on the engine's thread, with the index of the completion (of `n`) and its tokens so far,
            and maybe again for the same token. It returns None to allow every token, booleans `[vocab]`, or
            int32 words `[ceil(vocab / 32)]` in which token t is bit t % 32 of word t // 32, as xgrammar
            fills them; an array or a CPU tensor, also of shape `[1, ...]`. Tokens past the end of a shorter
            mask are not allowed. What it raises fails its request alone, and so does a mask that allows
            nothing.
        seed: makes sampling repeatable: a draw depends on seed, completion index, position and its own
            logits alone, whatever else runs. Counts modulo 2**64; None draws a new one for each completion.
        n: number of completions, at most 16,384; those that the engine has no place for wait for the
            others.
        stop: strings that end a completion, which is cut before them; a single string is accepted too.
            Kept as a tuple.
        stop_token_ids: token ids that end a completion, beside the model's own. Kept as a tuple.
        min_tokens: end tokens and `stop_token_ids` are not sampled before this many tokens.
        ignore_eos: the model's own end tokens do not end a completion.
        logprobs: if not None, the log-probability of every generated token, and of this many most likely
            tokens beside it.
        prompt_logprobs: the same for the tokens of the prompt; such a prompt is computed in full.

    Raises:
        ValueError: a value out of range or of the wrong type; names the field and the value. Logits are
            float32, so temperatures, penalties and biases must be numbers that float32 can hold.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] = ()
    allowed: AllowedTokens | None = None
    seed: int | None = None
    n: int = 1
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        for field, least, most in (
            ("max_tokens", 1, None),
            ("top_k", 0, None),
            ("n", 1, MAX_COMPLETIONS),
            ("min_tokens", 0, None),
            ("seed", None, None),
            ("logprobs", 0, None),
            ("prompt_logprobs", 0, None),
        ):
            value = getattr(self, field)
            if value is not None or field not in ("seed", "logprobs", "prompt_logprobs"):
                self._set(field, check_int(field, value, least=least, most=most))
        check_bool("ignore_eos", self.ignore_eos)
        for field in ("temperature", "min_p", "top_p"):
            self._set(field, _number(field, getattr(self, field), least=0.0))
        for field in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
            self._set(field, _number(field, getattr(self, field)))
        self._set("logit_bias", _biases(self.logit_bias))
        if self.allowed is not None and not callable(self.allowed):
            raise ValueError(f"allowed must be callable, got {self.allowed!r}")
        self._set("stop", _strings(self.stop))
        self._set("stop_token_ids", _ids(self.stop_token_ids))
        self._check_ranges()

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    def _check_ranges(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        if self.min_p > 1:
            raise ValueError(f"min_p must be at most 1, got {self.min_p!r}")
        if not self.repetition_penalty >= _SMALLEST:
            raise ValueError(
                f"repetition_penalty must be at least {_SMALLEST:.3g}, got {self.repetition_penalty!r}"
            )
        for field in ("temperature", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            value = getattr(self, field)
            if abs(value) > _LARGEST:
                raise ValueError(f"{field} must be at most {_LARGEST:.3g} in size, got {value!r}")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) is above max_tokens ({self.max_tokens})")


def _number(field: str, value: object, least: float = -math.inf) -> float:
    try:
        number = float(value) if is_number(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{field} must be a finite number, got {value!r}")
    if number < least:
        raise ValueError(f"{field} must be at least {least:g}, got {value!r}")
    return number


def _biases(value: object) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, Mapping | Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"logit_bias must map token ids to numbers, got {value!r}")
    biases: dict[int, float] = {}
    for pair in value.items() if isinstance(value, Mapping) else value:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"logit_bias must be pairs of a token id and a number, got {pair!r}")
        token = check_int("a token id of logit_bias", pair[0], least=0, most=TOKEN_LIMIT - 1)
        if token in biases:
            raise ValueError(f"logit_bias must have each token id once, got {token} twice")
        biases[token] = _number(f"logit_bias[{token}]", pair[1])
        if abs(biases[token]) > _LARGEST:
            raise ValueError(f"logit_bias[{token}] must be at most {_LARGEST:.3g} in size, got {pair[1]!r}")
    return tuple(sorted(biases.items()))


def _strings(value: object) -> tuple[str, ...]:
    stop = (value,) if isinstance(value, str) else value
    if not isinstance(stop, Iterable):
        raise ValueError(f"stop must be a string or strings, got {value!r}")
    texts = tuple(stop)
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ValueError(f"stop must be strings that are not empty, got {text!r}")
    return texts


def _ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ValueError(f"stop_token_ids must be token ids, got {value!r}")
    return tuple(check_int("stop_token_ids", token, least=0) for token in value)
