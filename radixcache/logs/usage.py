"""What a provider counted: prompt tokens, those read from its cache and those written to it.

Providers name these fields differently, and differ in whether cached tokens are among the prompt tokens.
Here they always are: `prompt_tokens` is the whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Usage", "read_usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; None where the provider did not say.

    Attributes:
        prompt_tokens: the whole prompt, whatever of it was cached.
        cached_tokens: of those, read from the cache.
        written_5m, written_1h: of those, written to the cache to live 5 minutes (or the default) or an hour
            (or longer).
        output_tokens: of the answer, reasoning included.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    written_5m: int | None = None
    written_1h: int | None = None
    output_tokens: int | None = None


def read_usage(usage: Any) -> Usage | None:
    """The counts of an API's `usage` object, whichever API's; None if it is not one."""
    if not isinstance(usage, Mapping):
        return None
    for claims, read in _DIALECTS:
        if any(name in usage for name in claims):
            return read(usage)
    return None


def _count(record: Any, *names: str) -> int | None:
    """The first of some fields that is a count; dotted names lead into objects."""
    for name in names:
        value = record
        for step in name.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and value >= 0:
            return value
    return None


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _writes(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Written for 5 minutes and for an hour, as Anthropic says it."""
    hour = _count(usage, "cache_creation.ephemeral_1h_input_tokens")
    short = _count(usage, "cache_creation.ephemeral_5m_input_tokens")
    if hour is None and short is None:
        return _count(usage, "cache_creation_input_tokens"), None
    return short, hour


_OPENAI_WRITES = ("prompt_tokens_details.cache_write_tokens", "prompt_tokens_details.cache_creation_tokens")
_ANTHROPIC = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")


def _openai_chat(usage: Mapping[str, Any]) -> Usage:
    """Chat completions, and those who follow it: cached tokens are among `prompt_tokens`."""
    prompt = _count(usage, "prompt_tokens")
    hits, misses = _count(usage, "prompt_cache_hit_tokens"), _count(usage, "prompt_cache_miss_tokens")
    short, hour = _writes(usage)
    return Usage(
        _sum(hits, misses) if prompt is None else prompt,
        _count(
            usage,
            "prompt_tokens_details.cached_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "cache_read_input_tokens",
            "num_cached_tokens",
        ),
        _count(usage, *_OPENAI_WRITES) if short is None else short,
        hour,
        _count(usage, "completion_tokens"),
    )


def _input_tokens(usage: Mapping[str, Any]) -> Usage:
    """`input_tokens`: Anthropic's leaves out what was cached or written, everybody else's does not."""
    given = _count(usage, "input_tokens")
    output = _count(usage, "output_tokens")
    if any(name in usage for name in _ANTHROPIC):
        cached = _count(usage, "cache_read_input_tokens")
        short, hour = _writes(usage)
        return Usage(_sum(given, cached, short, hour), cached, short, hour, output)
    return Usage(
        given,
        _count(
            usage,
            "input_tokens_details.cached_tokens",
            "input_token_details.cache_read",
            "prompt_tokens_details.cached_tokens",
            "cached_input_tokens",
            "total_cached_tokens",
        ),
        _count(usage, "input_tokens_details.cache_write_tokens", "input_token_details.cache_creation"),
        None,
        output,
    )


def _gemini(usage: Mapping[str, Any]) -> Usage:
    answer = _sum(_count(usage, "candidatesTokenCount"), _count(usage, "thoughtsTokenCount"))
    return Usage(
        _count(usage, "promptTokenCount"), _count(usage, "cachedContentTokenCount"), None, None, answer
    )


def _gemini_interactions(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        _count(usage, "total_input_tokens"),
        _count(usage, "total_cached_tokens"),
        None,
        None,
        _count(usage, "total_output_tokens"),
    )


def _bedrock(usage: Mapping[str, Any]) -> Usage:
    """Converse: `inputTokens` leaves out what was cached or written."""
    cached = _count(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    short, hour = _count(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount"), None
    details = usage.get("cacheDetails")
    if isinstance(details, list) and details:
        short, hour = _of_ttl(details, "5m"), _of_ttl(details, "1h")
    total = _sum(_count(usage, "inputTokens"), cached, short, hour)
    return Usage(total, cached, short, hour, _count(usage, "outputTokens"))


def _of_ttl(details: list[Any], ttl: str) -> int | None:
    return _sum(
        *(_count(d, "inputTokens") for d in details if isinstance(d, Mapping) and d.get("ttl") == ttl)
    )


def _langfuse(usage: Mapping[str, Any]) -> Usage:
    """Langfuse's `usage_details`: each token is counted under one name only."""
    cached = _count(usage, "input_cached_tokens", "cache_read_input_tokens", "input_cache_read")
    written = _count(usage, "input_cache_creation", "cache_creation_input_tokens", "input_cache_write")
    return Usage(
        _sum(_count(usage, "input"), cached, written),
        cached,
        written,
        None,
        _sum(_count(usage, "output"), _count(usage, "output_reasoning_tokens")),
    )


def _ollama(usage: Mapping[str, Any]) -> Usage:
    return Usage(_count(usage, "prompt_eval_count"), None, None, None, _count(usage, "eval_count"))


_DIALECTS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Usage]], ...] = (
    (("prompt_tokens", "prompt_cache_hit_tokens", "completion_tokens"), _openai_chat),
    (("total_input_tokens",), _gemini_interactions),
    (("promptTokenCount", "cachedContentTokenCount"), _gemini),
    (("inputTokens", "outputTokens"), _bedrock),
    (("input_tokens", "output_tokens"), _input_tokens),
    (("prompt_eval_count",), _ollama),
    (("input", "output", "input_cached_tokens"), _langfuse),
)
