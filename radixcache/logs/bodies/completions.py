"""Completions: a prompt to continue, as text or as token ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radixcache.logs.bodies.chat import read_messages
from radixcache.logs.bodies.common import read_common
from radixcache.logs.bodies.parts import system_message
from radixcache.logs.bodies.tokens import check_token_ids
from radixcache.logs.fields import describe
from radixcache.logs.media import media_part
from radixcache.logs.record import Body, InvalidRecordError, Message

__all__ = ["claims", "holds_token_ids", "read"]

_TOKEN_FIELDS = ("prompt_token_ids", "prompt_ids", "input_ids")
_TEXT_FIELDS = ("prompt", "inputs", "text_input")
# Beside token ids other forms of the same prompt may be logged.
_FIELDS = (
    *_TOKEN_FIELDS,
    *_TEXT_FIELDS,
    "messages",
    "tools",
    "functions",
    "system",
    "images",
    "raw",
    "template",
)


def holds_token_ids(body: Mapping[str, Any]) -> bool:
    """Whether a body has the prompt's token ids."""
    return any(body.get(name) is not None for name in _TOKEN_FIELDS)


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body has a prompt that is not messages."""
    return holds_token_ids(body) or any(body.get(name) is not None for name in _TEXT_FIELDS)


def read(body: Mapping[str, Any]) -> Body:
    """Read a body. A `prompt` with `system` beside it (Ollama's generate) is a conversation.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    common = read_common(body, _FIELDS, max_tokens=_MAX_TOKENS)
    messages, text, token_ids = _prompt(body)
    context = ("context holds tokens that came before, which are not read",) if body.get("context") else ()
    return Body(
        messages=messages,
        text=text,
        token_ids=token_ids,
        template_kwargs=common.template_kwargs,
        max_tokens=common.max_tokens,
        model=common.model,
        adapter=common.adapter,
        cache_salt=common.cache_salt,
        notes=common.notes + context,
    )


_MAX_TOKENS = (
    "max_completion_tokens",
    "max_tokens",
    "max_new_tokens",
    "parameters.max_new_tokens",
    "sampling_params.max_new_tokens",
    "sampling_params.max_tokens",
    "options.num_predict",
)


def _prompt(body: Mapping[str, Any]) -> tuple[list[Message] | None, str | None, list[int] | None]:
    for name in _TOKEN_FIELDS:
        if body.get(name) is not None:
            return None, None, check_token_ids(name, body[name])
    name = next(name for name in _TEXT_FIELDS if body.get(name) is not None)
    prompt = body[name]
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidRecordError(f"{name} is empty")
        if body.get("raw") is not True and _is_ollama(body):
            return _conversation(body, prompt), None, None
        return None, prompt, None
    if isinstance(prompt, list):
        if prompt and isinstance(prompt[0], dict) and "role" in prompt[0]:
            return read_messages(name, prompt)[0], None, None
        if len(prompt) == 1 and isinstance(prompt[0], str) and prompt[0]:
            return None, prompt[0], None
        if prompt and isinstance(prompt[0], str | list | dict):
            raise InvalidRecordError(f"{name} is a list of prompts; one request a line is read")
        return None, None, check_token_ids(name, prompt)
    raise InvalidRecordError(f"{name} is {describe(prompt)}, not text")


def _is_ollama(body: Mapping[str, Any]) -> bool:
    return isinstance(body.get("system"), str) or isinstance(body.get("images"), list)


def _conversation(body: Mapping[str, Any], prompt: str) -> list[Message]:
    images = [media_part(f"images[{i}]", "image", image) for i, image in enumerate(body.get("images") or [])]
    content: Any = [*images, {"type": "text", "text": prompt}] if images else prompt
    return [*system_message(body.get("system")), {"role": "user", "content": content}]
