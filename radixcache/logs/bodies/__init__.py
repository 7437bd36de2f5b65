"""Request bodies of the APIs that people use, read into one form.

`read_body` recognises the API by the fields of the body. One module per API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from radixcache.logs.bodies import anthropic, bedrock, chat, completions, gemini, responses
from radixcache.logs.record import Body, InvalidRecordError

__all__ = ["holds_prompt", "read_body"]

_READERS: tuple[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Body]], ...] = (
    (completions.holds_token_ids, completions.read),
    (gemini.claims, gemini.read),
    (bedrock.claims, bedrock.read),
    (anthropic.claims, anthropic.read),
    (chat.claims, chat.read),
    (responses.claims, responses.read),
    (completions.claims, completions.read),
)
# What says that there is a prompt; the other readers' bodies are kinds of `messages`.
_PROMPTS = (completions.claims, chat.claims, gemini.claims, responses.claims)


def holds_prompt(body: Any) -> bool:
    """Whether a value looks like the body of a request to one of the APIs."""
    return isinstance(body, Mapping) and any(claims(body) for claims in _PROMPTS)


def read_body(body: Mapping[str, Any]) -> Body:
    """Read a body.

    Token ids win over messages, and messages over text, where a body has several: the more exact form says
    what the model was really given.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    for claims, read in _READERS:
        if claims(body):
            return read(body)
    raise InvalidRecordError("has no field with a prompt")
