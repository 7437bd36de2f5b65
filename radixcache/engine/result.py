"""Generation results: whole, and piece by piece while they come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was, by the model's own distribution: before temperature, penalties and bans.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of its probability.
        top: id and logprob of the most likely tokens, most likely first, as many as were asked for.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What a step added to one completion.

    The deltas of a completion add up to its `Completion`: texts and token ids joined, and the finish reason
    in the last one.

    Attributes:
        index: which of the `n` completions.
        text: text that is certain now; empty while a character or a stop string may be incomplete.
        token_ids: tokens generated, an end token included; empty where only withheld text or the finish
            reason comes.
        logprobs: one for each of `token_ids`, if asked for.
        finish_reason: as in `Completion`, in the completion's last delta; None before it.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: str | None = None


DeltaFields = tuple[int, str, tuple[int, ...], tuple[TokenLogprob, ...] | None, str | None]
"""The fields of a `Delta`, which is made of them when it is read."""


@dataclass(frozen=True, slots=True)
class RequestUsage:
    """What a request has used so far.

    Attributes:
        prompt_tokens: tokens of the prompt.
        cached_tokens: those of them whose keys and values were reused.
        completion_tokens: tokens generated so far, of all completions together.
        misses: why the other tokens of the prompt were not reused: reason -> tokens, which sum to
            `prompt_tokens - cached_tokens`.
        diverged_at: token index at which the prompt left everything seen before, if it did.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    misses: dict[str, int]
    diverged_at: int | None


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation of a prompt.

    Attributes:
        index: which of the `n` asked for.
        text: the generated text, without special tokens, cut before a stop string.
        token_ids: the generated tokens, an end token included.
        finish_reason: "stop" (end token, stop token or stop string), "length", "abort" or "timeout".
        logprobs: one for each token, if asked for.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The outcome of a request, and what was reused for it.

    Attributes:
        request_id: as given to `submit`, or made up by the engine.
        prompt_tokens: tokens of the prompt.
        cached_tokens: those of them whose keys and values were reused.
        completion_tokens: generated tokens of all completions together.
        ttft: seconds from submit to the first token.
        latency: seconds from submit to the end.
        queue_time: seconds from submit to the first step that worked on it.
        misses: why the other tokens of the prompt were not reused: reason -> tokens, which sum to
            `prompt_tokens - cached_tokens`.
        diverged_at: token index at which the prompt left everything seen before, if it did.
        completions: by index.
        prompt_logprobs: one for each token of the prompt, None for the first, if asked for.
    """

    request_id: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft: float
    latency: float
    queue_time: float
    misses: dict[str, int]
    diverged_at: int | None
    completions: tuple[Completion, ...]
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None

    @property
    def text(self) -> str:
        """Text of the first completion."""
        return self.completions[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Tokens of the first completion."""
        return self.completions[0].token_ids

    @property
    def finish_reason(self) -> str:
        """Why the first completion ended."""
        return self.completions[0].finish_reason
