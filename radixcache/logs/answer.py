"""What was answered at the time, as far as a log tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from radixcache.logs.bodies.responses import read_items
from radixcache.logs.record import InvalidRecordError, LogRequest

__all__ = ["Answer", "answer_of"]

_TEXT_FIELDS = ("output", "completion")
_ID_FIELDS = ("output_token_ids", "response_token_ids", "completion_token_ids")
_COUNT_FIELDS = ("output_length", "output_tokens", "completion_tokens")
_INT32 = 2**31


@dataclass(frozen=True, slots=True)
class Answer:
    """A logged answer.

    Attributes:
        text: what it says; None where that was not logged, or is not text alone (a tool call).
        token_ids: its token ids, where those were logged.
        tokens: how many tokens it had, as logged; None where that was not.
        tool_calls: what it says and calls, names and arguments as JSON: about as long as what the model
            wrote, but not the same; None for an answer without tool calls.
    """

    text: str | None
    token_ids: list[int] | None
    tokens: int | None
    tool_calls: str | None = None


def answer_of(entry: LogRequest) -> Answer:
    """Find the answer in a record: `response` as text, a message or an API's response, `output`, token ids.

    What cannot be read counts as not logged: an answer is extra, and no reason to refuse the request.
    """
    response = entry.response
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        response = response["body"]  # a line of an OpenAI batch's output
    said = _said(response)
    text = _text(said)
    if text is None:
        text = next((v for name in _TEXT_FIELDS if isinstance(v := entry.raw.get(name), str)), None)
    ids = next((v for name in _ID_FIELDS if _is_ids(v := entry.raw.get(name))), None)
    counts = [entry.raw.get(name) for name in _COUNT_FIELDS]
    if entry.usage is not None:
        counts.insert(0, entry.usage.output_tokens)
    tokens = next((n for n in counts if type(n) is int and 0 <= n < _INT32), None)
    return Answer(text or None, ids, tokens, _tool_calls(said))


def _said(response: Any) -> Any:
    """The message, or the text, of an API's response; any other as it is."""
    if not isinstance(response, dict):
        return response
    if _is_list(choices := response.get("choices")):
        first = choices[0] if choices and isinstance(choices[0], dict) else {}
        message = first.get("message")
        return _said(message) if isinstance(message, dict) else _string(first.get("text"))
    if _is_list(output := response.get("output")):  # Responses
        try:
            return next((message for message in read_items("output", output)), None)
        except InvalidRecordError:
            return None
    if _is_list(candidates := response.get("candidates")):  # Gemini
        content = candidates[0].get("content") if candidates and isinstance(candidates[0], dict) else None
        return _of_gemini(content)
    output = response.get("output")
    if isinstance(output, dict) and isinstance(output.get("message"), dict):  # Bedrock
        return _of_bedrock(output["message"])
    return response


def _of_gemini(content: Any) -> Any:
    parts = content.get("parts") if isinstance(content, dict) else None
    if not _is_list(parts):
        return None
    made = [part for part in parts if isinstance(part, dict)]
    calls = [
        {"function": {"name": call.get("name"), "arguments": call.get("args")}}
        for part in made
        if isinstance(call := part.get("functionCall"), dict)
    ]
    texts = [part for part in made if isinstance(part.get("text"), str) and not part.get("thought")]
    return {"content": texts, "tool_calls": calls}


def _of_bedrock(message: Mapping[str, Any]) -> Any:
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if _is_list(content) else []
    calls = [
        {"function": {"name": use.get("name"), "arguments": use.get("input")}}
        for part in parts
        if isinstance(use := part.get("toolUse"), dict)
    ]
    return {"content": [part for part in parts if isinstance(part.get("text"), str)], "tool_calls": calls}


def _text(said: Any) -> str | None:
    if isinstance(said, str):
        return said
    if not isinstance(said, dict) or said.get("tool_calls") or said.get("function_call"):
        return None
    content = said.get("content")
    if _is_list(content):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(parts) else None
    return _string(content)


def _tool_calls(said: Any) -> str | None:
    if not isinstance(said, dict):
        return None
    calls, content = said.get("tool_calls"), said.get("content")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if _is_list(calls) else []
    functions.append(said.get("function_call"))
    parts = content if _is_list(content) else [{"type": "text", "text": content}]
    parts = [part for part in parts if isinstance(part, dict)]
    functions += [part for part in parts if part.get("type") == "tool_use"]
    made = [
        {"name": function.get("name"), "arguments": function.get("arguments", function.get("input"))}
        for function in functions
        if isinstance(function, dict)
    ]
    if not made:
        return None
    text = "".join(text for part in parts if isinstance(text := part.get("text"), str))
    return text + json.dumps(made, ensure_ascii=False)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and set(map(type, value)) == {int}
        and min(value) >= 0
        and max(value) < _INT32
    )
