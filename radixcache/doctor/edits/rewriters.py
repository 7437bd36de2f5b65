"""What edits do to a request: its texts are cut, moved, sorted or written differently."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radixcache.logs.canonical import as_record
from radixcache.logs.record import LogRequest

__all__ = [
    "Drop",
    "Move",
    "SortMatches",
    "changed",
    "plain_json",
    "sort_json",
    "sort_tools",
    "squeeze_space",
    "squeezed",
]


def changed(entry: LogRequest, **fields: Any) -> LogRequest:
    """A request with other `messages`, `tools` or `prompt`, in its record, too."""
    changed_entry = replace(entry, **fields)
    raw = entry.raw
    if not _is_plain(entry):
        return replace(changed_entry, raw=as_record(changed_entry))
    body = raw.get("body")
    if isinstance(body, dict) and all(raw.get(name) is None for name in ("messages", "prompt")):
        return replace(entry, raw={**raw, "body": {**body, **fields}}, **fields)
    return replace(entry, raw={**raw, **fields}, **fields)


def _is_plain(entry: LogRequest) -> bool:
    """Whether the record has the prompt under the names that are changed, and nothing else in it."""
    body = entry.raw.get("body")
    if not isinstance(body, dict):
        body = entry.raw
    if entry.messages is not None and body.get("messages") != entry.messages:
        return False
    return entry.prompt is None or body.get("prompt") == entry.prompt


def _cut(text: str, pattern: re.Pattern[str], taken: list[str]) -> str:
    """Text without what matches: whole lines go with their line breaks, words with a space beside them."""
    rest = []
    at = 0
    for match in pattern.finditer(text):
        start, stop = match.span()
        if start < at or start == stop:
            continue
        taken.append(match[0].strip())
        begins = start == 0 or text[start - 1] == "\n" or match[0][0] == "\n"
        ends = stop == len(text) or text[stop] == "\n" or match[0][-1] == "\n"
        if begins and ends:
            while stop < len(text) and text[stop] == "\n":
                stop += 1
            if stop == len(text):
                while start > at and text[start - 1] == "\n":
                    start -= 1
        elif begins:
            while stop < len(text) and text[stop] == " ":
                stop += 1
        elif text[start - 1] == " " and not match[0][-1].isspace():
            start -= 1
        rest.append(text[at : max(at, start)])
        at = stop
    return "".join([*rest, text[at:]]) if at else text


def _append(text: str, taken: Sequence[str]) -> str:
    return "\n\n".join([text, *taken] if text else taken)


@dataclass(frozen=True, slots=True)
class Drop:
    pattern: re.Pattern[str]

    def __call__(self, entry: LogRequest) -> LogRequest:
        def change(text: str) -> str:
            return _cut(text, self.pattern, [])

        if entry.prompt is not None:
            return changed(entry, prompt=change(entry.prompt) or entry.prompt)
        if entry.messages is None:
            return entry
        found: dict[str, Any] = {"messages": [_map_message(message, change) for message in entry.messages]}
        if entry.tools is not None:
            found["tools"] = _map_json(entry.tools, change)
        return changed(entry, **found)


@dataclass(frozen=True, slots=True)
class Move:
    pattern: re.Pattern[str]
    to_last: bool

    def __call__(self, entry: LogRequest) -> LogRequest:
        if entry.prompt is not None:
            taken: list[str] = []
            rest = _cut(entry.prompt, self.pattern, taken)
            return changed(entry, prompt=_append(rest, taken)) if taken else entry
        if entry.messages is None:
            return entry
        messages: list[dict[str, Any]] = []
        moved: list[str] = []
        for message in entry.messages:
            taken = []
            after = _map_message(message, lambda text, taken=taken: _cut(text, self.pattern, taken))  # type: ignore[misc]
            messages.append(after if self.to_last or not taken else _appended(after, taken))
            moved += taken
        found: dict[str, Any] = {}
        if entry.tools is not None:
            of_tools: list[str] = []
            tools = _map_json(entry.tools, lambda text: _cut(text, self.pattern, of_tools))
            if of_tools:
                found["tools"] = tools
                moved = list(dict.fromkeys(of_tools)) + (moved if self.to_last else [])
                if not self.to_last and messages[0]["role"] == "system":
                    messages[0], moved = _appended(messages[0], moved), []
                return changed(entry, messages=_to_last(messages, moved), **found)
        if not moved:
            return entry
        return changed(entry, messages=_to_last(messages, moved) if self.to_last else messages)


def _appended(message: dict[str, Any], taken: Sequence[str]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [*content, {"type": "text", "text": "\n\n" + _append("", taken)}]}
    return {**message, "content": _append(content or "", taken)}


def _to_last(messages: list[dict[str, Any]], moved: Sequence[str]) -> list[dict[str, Any]]:
    if not moved:
        return messages
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    place = places[-1] if places else len(messages) - 1
    return [*messages[:place], _appended(messages[place], moved), *messages[place + 1 :]]


def sort_tools(entry: LogRequest) -> LogRequest:
    if not entry.tools:
        return entry
    return changed(entry, tools=sorted(entry.tools, key=_tool_name))


def _tool_name(tool: dict[str, Any]) -> tuple[str, str]:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return str(name), json.dumps(tool, sort_keys=True)


def sort_json(entry: LogRequest) -> LogRequest:
    if entry.prompt is not None:
        return changed(entry, prompt=plain_json(entry.prompt))
    if entry.messages is None:
        return entry
    messages = []
    for message in entry.messages:
        after = _map_message(message, plain_json)
        if calls := after.get("tool_calls"):
            after = {**after, "tool_calls": _map_json(calls, plain_json)}
        messages.append(after)
    if entry.tools is None:
        return changed(entry, messages=messages)
    return changed(entry, messages=messages, tools=[_sorted_keys(tool) for tool in entry.tools])


def _sorted_keys(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True))


def plain_json(text: str) -> str:
    """Text whose JSON objects have sorted keys and plain separators; what is not JSON stays as it is."""
    decoder = json.JSONDecoder()
    pieces, at = [], 0
    for match in re.finditer(r'\{(?=\s*["}])|\[(?=\s*[\[{])', text):
        if match.start() < at:
            continue
        try:
            value, stop = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        pieces += [text[at : match.start()], json.dumps(value, sort_keys=True, ensure_ascii=False)]
        at = stop
    return "".join([*pieces, text[at:]]) if at else text


def squeeze_space(entry: LogRequest) -> LogRequest:
    if entry.prompt is not None:
        return changed(entry, prompt=squeezed(entry.prompt))
    if entry.messages is None:
        return entry
    return changed(entry, messages=[_map_message(message, squeezed) for message in entry.messages])


def squeezed(text: str) -> str:
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +(?=\n|$)", "", text))


@dataclass(frozen=True, slots=True)
class SortMatches:
    pattern: re.Pattern[str]

    def __call__(self, entry: LogRequest) -> LogRequest:
        if entry.prompt is not None:
            return changed(entry, prompt=self._sorted(entry.prompt))
        if entry.messages is None:
            return entry
        return changed(entry, messages=[_map_message(message, self._sorted) for message in entry.messages])

    def _sorted(self, text: str) -> str:
        matches = [match for match in self.pattern.finditer(text) if match[0]]
        pieces, at = [], 0
        for match, wanted in zip(matches, sorted(match[0] for match in matches), strict=True):
            pieces += [text[at : match.start()], wanted]
            at = match.end()
        return "".join([*pieces, text[at:]])


def _map_content(content: Any, change: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return change(content)
    if isinstance(content, list):
        return [
            change(part) if isinstance(part, str) else {**part, "text": change(part["text"])}
            for part in content
        ]
    return content


def _map_message(message: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    content = message.get("content")
    after = _map_content(content, change)
    return message if after == content else {**message, "content": after}


def _map_json(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_json(item, change) for item in value]
    return {key: _map_json(item, change) for key, item in value.items()} if isinstance(value, dict) else value
