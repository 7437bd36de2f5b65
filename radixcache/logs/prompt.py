"""Completions requests: a `prompt` to continue, as text."""

from __future__ import annotations

from typing import Any

from radixcache.logs.fields import describe
from radixcache.logs.record import InvalidRecordError, Prompt
from radixcache.logs.tokens import parse_token_ids

__all__ = ["parse_prompt"]


def parse_prompt(record: dict[str, Any]) -> Prompt:
    """Check `prompt`: text, or token ids as the completions API also allows.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    prompt = record["prompt"]
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidRecordError("prompt is empty")
        return Prompt(text=prompt)
    if isinstance(prompt, list):
        if prompt and isinstance(prompt[0], dict) and "role" in prompt[0]:
            raise InvalidRecordError("prompt is a list of messages; they are read from messages")
        if prompt and isinstance(prompt[0], str | list | dict):
            raise InvalidRecordError("prompt is a list of prompts; one request a line is read")
        return parse_token_ids("prompt", prompt)
    raise InvalidRecordError(f"prompt is {describe(prompt)}, not text")
