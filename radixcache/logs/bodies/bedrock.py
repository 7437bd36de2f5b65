"""Bedrock Converse: `system`, `messages` and `toolConfig`, content in blocks without a type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies.common import read_common
from radixcache.logs.bodies.parts import (
    as_list,
    as_object,
    function_tool,
    json_text,
    system_message,
    tool_call,
)
from radixcache.logs.fields import describe, read_text
from radixcache.logs.media import media_part
from radixcache.logs.record import Body, InvalidRecordError, Message

__all__ = ["claims", "read"]

_FIELDS = """
    messages system toolConfig inferenceConfig modelId guardrailConfig additionalModelRequestFields
    promptVariables requestMetadata performanceConfig additionalModelResponseFieldPaths
    """.split()  # noqa: SIM905 - a list of words is easier to read
_ONLY_HERE = ("toolConfig", "inferenceConfig", "additionalModelRequestFields")
_BLOCKS = ("text", "toolUse", "toolResult", "image", "document", "video", "cachePoint", "reasoningContent")
_MARK = {"type": "ephemeral"}


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body is of this API: a field that only it has, or blocks that have no type."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    if any(isinstance(body.get(name), dict) for name in _ONLY_HERE):
        return True
    parts = [
        part
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    ]
    return bool(parts) and all(
        isinstance(part, dict) and len(part) == 1 and next(iter(part)) in _BLOCKS for part in parts
    )


def read(body: Mapping[str, Any]) -> Body:
    """Read a body; a `cachePoint` becomes a mark on the block before it.

    Raises:
        InvalidRecordError: naming the field and what is wrong with it.
    """
    system: list[dict[str, Any]] = []
    for i, block in enumerate(as_list("system", body.get("system") or [])):
        _add(f"system[{i}]", as_object(f"system[{i}]", block), system)
    messages: list[Message] = []
    for i, message in enumerate(as_list("messages", body["messages"])):
        messages += _messages(f"messages[{i}]", as_object(f"messages[{i}]", message))
    if not messages:
        raise InvalidRecordError("messages is empty")
    common = read_common(body, _FIELDS, max_tokens=("inferenceConfig.maxTokens",))
    return Body(
        messages=[*system_message(system), *messages],
        tools=_tools(body.get("toolConfig")),
        template_kwargs=common.template_kwargs,
        max_tokens=common.max_tokens,
        model=common.model or read_text(body.get("modelId")),
        cache_salt=common.cache_salt,
        notes=common.notes,
    )


def _messages(name: str, message: Mapping[str, Any]) -> Iterator[Message]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise InvalidRecordError(f"{name}.role is {describe(role)}, not a string")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for i, block in enumerate(as_list(f"{name}.content", content)):
        where = f"{name}.content[{i}]"
        if isinstance(result := as_object(where, block).get("toolResult"), dict):
            inner: list[dict[str, Any]] = []
            for j, part in enumerate(as_list(f"{where}.toolResult.content", result.get("content") or [])):
                _add(f"{where}.toolResult.content[{j}]", as_object(where, part), inner)
            yield {"role": "tool", "tool_call_id": result.get("toolUseId"), "content": inner}
        elif isinstance(use := block.get("toolUse"), dict):
            calls.append(tool_call(use.get("toolUseId"), use.get("name"), use.get("input")))
        elif isinstance(thought := block.get("reasoningContent"), dict):
            text = thought.get("reasoningText")
            thoughts.append(str(text.get("text") or "") if isinstance(text, dict) else json_text(thought))
        else:
            _add(where, block, parts)
    if parts or calls or thoughts:
        made: Message = {"role": role, "content": parts}
        if calls:
            made["tool_calls"] = calls
        if thoughts:
            made["reasoning_content"] = "".join(thoughts)
        yield made


def _add(name: str, block: Mapping[str, Any], parts: list[dict[str, Any]]) -> None:
    """Add what a block holds to the parts; a cache point marks the last of them."""
    if isinstance(block.get("text"), str):
        parts.append({"type": "text", "text": block["text"]})
    elif "json" in block:
        parts.append({"type": "text", "text": json_text(block["json"])})
    elif "cachePoint" in block:
        point = block["cachePoint"]
        ttl = point.get("ttl") if isinstance(point, dict) else None
        if parts:
            parts[-1]["cache_control"] = _MARK if ttl is None else {**_MARK, "ttl": ttl}
    else:
        for kind, media in (("image", "image"), ("video", "image"), ("document", "file")):
            if isinstance(content := block.get(kind), dict):
                source = content.get("source")
                source = source if isinstance(source, dict) else {}
                s3 = source.get("s3Location")
                known = (
                    source.get("bytes")
                    or source.get("text")
                    or (s3.get("uri") if isinstance(s3, dict) else None)
                )
                parts.append(media_part(name, media, known))
                return
        raise InvalidRecordError(f"{name} has {', '.join(sorted(block)) or 'nothing'}, which is not known")


def _tools(config: Any) -> list[dict[str, Any]] | None:
    if config is None:
        return None
    tools: list[dict[str, Any]] = []
    for i, tool in enumerate(as_list("toolConfig.tools", as_object("toolConfig", config).get("tools") or [])):
        name = f"toolConfig.tools[{i}]"
        if isinstance(spec := as_object(name, tool).get("toolSpec"), dict):
            schema = spec.get("inputSchema")
            parameters = schema.get("json") if isinstance(schema, dict) else None
            tools.append(function_tool(spec.get("name"), spec.get("description"), parameters))
        elif "cachePoint" in tool:
            if tools:
                tools[-1]["cache_control"] = _MARK
        else:
            raise InvalidRecordError(f"{name} has no toolSpec")
    return tools or None
