"""Chat completions: `messages`, with `tools` or the older `functions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radixcache.logs.bodies.common import read_common
from radixcache.logs.bodies.parts import as_list, as_object, content_of, object_list
from radixcache.logs.fields import describe
from radixcache.logs.media import MEDIA, media_part
from radixcache.logs.record import Body, InvalidRecordError, Message
from radixcache.logs.unread import unread_text

__all__ = ["claims", "read", "read_messages"]

_FIELDS = ("messages", "tools", "functions")
_MESSAGE_FIELDS = frozenset(
    """
    role content name tool_calls tool_call_id function_call refusal reasoning_content reasoning thinking
    id type status created_at timestamp annotations weight index parsed audio logprobs finish_reason
    provider_specific_fields reasoning_details cache_control prefix partial metadata model uuid provider
    content_parts
    """.split()  # noqa: SIM905 - words are easier to read
)
_IMAGES = ("image_url", "image", "input_image", "video_url", "video")
_AUDIO = ("input_audio", "audio", "audio_url")
_FILES = ("file", "input_file", "document")


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body has messages."""
    return body.get("messages") is not None


def read(body: Mapping[str, Any]) -> Body:
    """Read a body; `functions` become `tools`.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    messages, notes = read_messages("messages", body["messages"])
    tools = object_list("tools", body.get("tools")) or []
    functions = object_list("functions", body.get("functions")) or []
    tools = [*tools, *({"type": "function", "function": function} for function in functions)]
    common = read_common(body, _FIELDS)
    return Body(
        messages=messages,
        tools=tools or None,
        template_kwargs=common.template_kwargs,
        max_tokens=common.max_tokens,
        model=common.model,
        adapter=common.adapter,
        cache_salt=common.cache_salt,
        notes=common.notes + notes,
    )


def read_messages(name: str, messages: Any) -> tuple[list[Message], tuple[str, ...]]:
    """Check messages; content that is no text becomes `media` parts.

    `content` may be null, absent beside a tool call, a refusal or audio, text, or a list of parts.

    Returns:
        The messages, and notes on their fields that nobody reads.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    if not as_list(name, messages):
        raise InvalidRecordError(f"{name} is empty")
    found: list[Message] = []
    notes: dict[str, None] = {}
    for i, message in enumerate(messages):
        found.append(_message(f"{name}[{i}]", as_object(f"{name}[{i}]", message)))
        if not message.keys() <= _MESSAGE_FIELDS:
            notes.update(dict.fromkeys(unread_text(f"{name}[].", message, _MESSAGE_FIELDS)))
    return found, tuple(notes)


def _message(name: str, message: Mapping[str, Any]) -> Message:
    if "role" not in message:
        raise InvalidRecordError(f"{name}.role is missing")
    if not isinstance(message["role"], str):
        raise InvalidRecordError(f"{name}.role is {describe(message['role'])}, not a string")
    object_list(f"{name}.tool_calls", message.get("tool_calls"))
    content = message.get("content")
    if isinstance(content, list) and any(not _is_plain(part) for part in content):
        return {**message, "content": content_of(f"{name}.content", content, _part)}
    if content is None and not any(
        message.get(field) is not None for field in ("tool_calls", "function_call", "refusal", "audio")
    ):
        if "content" not in message:
            raise InvalidRecordError(f"{name}.content is missing")
    elif content is None and isinstance(message.get("refusal"), str):
        return {**message, "content": message["refusal"]}
    elif content is None and isinstance(message.get("audio"), dict):
        return {**message, "content": [_audio(f"{name}.audio", message["audio"])]}
    if content is not None and not isinstance(content, str | list):
        raise InvalidRecordError(f"{name}.content is {describe(content)}, not text, null or a list of parts")
    return dict(message)


def _audio(name: str, audio: dict[str, Any]) -> dict[str, Any]:
    if isinstance(audio.get("transcript"), str):
        return {"type": "text", "text": audio["transcript"]}
    return media_part(name, "audio", audio.get("id") or audio.get("data"))


def _is_plain(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))


def _part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    for field in ("text", "refusal", "input_text", "output_text", "thinking"):
        if isinstance(part.get(field), str):
            return {**part, "type": "text", "text": part[field]}
    if kind == MEDIA and isinstance(part.get("digest"), str):
        return dict(part)
    tokens = part.get("tokens")
    for kinds, media in ((_IMAGES, "image"), (_AUDIO, "audio"), (_FILES, "file")):
        if kind in kinds:
            content = next(
                (part[field] for field in (*kinds, "file_data", "file_id", "source", "url") if field in part),
                None,
            )
            detail = content.get("detail") if isinstance(content, dict) else part.get("detail")
            return media_part(name, media, content, tokens=tokens, detail=detail)
    what = f"of type {kind}" if isinstance(kind, str) else "without text"
    raise InvalidRecordError(f"{name} is {what}, which is neither text nor an image, audio or file")
