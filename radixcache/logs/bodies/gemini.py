"""Gemini generateContent: `contents` of roles `user` and `model`, with `systemInstruction`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radixcache.logs.bodies.common import read_common
from radixcache.logs.bodies.parts import as_list, as_object, json_text, system_message, tool_call
from radixcache.logs.fields import describe
from radixcache.logs.media import media_part
from radixcache.logs.record import Body, InvalidRecordError, Message

__all__ = ["claims", "read"]

_FIELDS = """
    contents systemInstruction system_instruction tools toolConfig tool_config generationConfig
    generation_config safetySettings safety_settings config labels
    """.split()  # noqa: SIM905 - a list of words is easier to read
_MAX_TOKENS = (
    "generationConfig.maxOutputTokens",
    "generation_config.max_output_tokens",
    "config.maxOutputTokens",
    "config.max_output_tokens",
)


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body is of this API."""
    return body.get("contents") is not None


def read(body: Mapping[str, Any]) -> Body:
    """Read a body.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it; also for a `cachedContent`, whose text
            is not in the log.
    """
    given = body.get("config")
    config: dict[str, Any] = given if isinstance(given, dict) else {}
    for name in ("cachedContent", "cached_content"):
        if body.get(name) or config.get(name):
            raise InvalidRecordError(f"{name} stands for text that is not in the log")
    system = next(
        (
            found
            for holder in (body, config)
            for name in ("systemInstruction", "system_instruction")
            if (found := holder.get(name)) is not None
        ),
        None,
    )
    contents = body["contents"]
    if isinstance(contents, str):
        contents = [{"role": "user", "parts": [{"text": contents}]}]
    messages: list[Message] = []
    for i, content in enumerate(contents if isinstance(contents, list) else [contents]):
        messages += _messages(f"contents[{i}]", content)
    if not messages:
        raise InvalidRecordError("contents is empty")
    common = read_common(body, _FIELDS, max_tokens=_MAX_TOKENS)
    return Body(
        messages=[*system_message(_system(system)), *messages],
        tools=_tools(body.get("tools") or config.get("tools")),
        template_kwargs=common.template_kwargs,
        max_tokens=common.max_tokens,
        model=common.model,
        cache_salt=common.cache_salt,
        notes=common.notes,
    )


def _system(system: Any) -> str | list[dict[str, Any]] | None:
    if system is None or isinstance(system, str):
        return system
    parts = as_object("systemInstruction", system).get("parts")
    parts = [parts] if isinstance(parts, dict) else as_list("systemInstruction.parts", parts)
    texts = [as_object("systemInstruction.parts", part).get("text") or "" for part in parts]
    return [{"type": "text", "text": json_text(text)} for text in texts]


def _messages(name: str, message: Any) -> list[Message]:
    if isinstance(message, str):
        return [{"role": "user", "content": message}]
    role = as_object(name, message).get("role") or "user"
    if not isinstance(role, str):
        raise InvalidRecordError(f"{name}.role is {describe(role)}, not a string")
    found: list[Message] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    raw = message.get("parts")
    for i, item in enumerate([raw] if isinstance(raw, dict) else as_list(f"{name}.parts", raw)):
        where = f"{name}.parts[{i}]"
        part = as_object(where, item)
        if isinstance(part.get("text"), str):
            if part.get("thought"):
                thoughts.append(part["text"])
            else:
                parts.append({"type": "text", "text": part["text"]})
        elif isinstance(call := part.get("functionCall") or part.get("function_call"), dict):
            calls.append(tool_call(call.get("id"), call.get("name"), call.get("args")))
        elif isinstance(answer := part.get("functionResponse") or part.get("function_response"), dict):
            name_of = answer.get("id") or answer.get("name")
            content = json_text(answer.get("response"))
            found.append({"role": "tool", "tool_call_id": name_of, "content": content})
        else:
            parts.append(_part(where, part))
    if parts or calls or thoughts:
        made: Message = {"role": "assistant" if role == "model" else role, "content": parts}
        if calls:
            made["tool_calls"] = calls
        if thoughts:
            made["reasoning_content"] = "".join(thoughts)
        found.append(made)
    return found


def _part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    for field in ("inlineData", "inline_data", "fileData", "file_data"):
        if isinstance(data := part.get(field), dict):
            kind = str(data.get("mimeType") or data.get("mime_type") or "").partition("/")[0]
            media = "image" if kind in ("image", "video") else "audio" if kind == "audio" else "file"
            content = data.get("data") or data.get("fileUri") or data.get("file_uri")
            return media_part(name, media, content)
    for field in ("executableCode", "executable_code", "codeExecutionResult", "code_execution_result"):
        if isinstance(data := part.get(field), dict):
            return {"type": "text", "text": json_text(data.get("code") or data.get("output") or "")}
    raise InvalidRecordError(f"{name} has {', '.join(sorted(part)) or 'nothing'}, which is not known")


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    made: list[dict[str, Any]] = []
    for i, item in enumerate(as_list("tools", tools)):
        tool = as_object(f"tools[{i}]", item)
        declared = tool.get("functionDeclarations") or tool.get("function_declarations")
        if declared is None:
            made.append(dict(tool))
            continue
        made += [
            {"type": "function", "function": dict(as_object(f"tools[{i}]", function))}
            for function in as_list(f"tools[{i}].functionDeclarations", declared)
        ]
    return made or None
