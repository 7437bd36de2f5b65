"""LangSmith: runs of type `llm`, with messages as LangChain serialises them.

`session_id` is the project there; the conversation is among the metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.bodies.parts import as_object, tool_call
from radixcache.logs.fields import field_of
from radixcache.logs.format import Format, Line, first_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest, Message
from radixcache.logs.usage import read_usage

__all__ = ["LangSmith"]

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "developer": "developer",
}
_SETTINGS = ("tools", "functions", "model", "max_tokens")
_SESSIONS = ("session_id", "thread_id", "conversation_id")


class LangSmith(Format):
    """Runs as LangSmith exports them; those that are not of a model are passed over."""

    name = "langsmith"
    fields = "run_type llm and inputs"
    known = frozenset(
        """
        id trace_id name run_type start_time end_time session_id session_name inputs outputs extra
        error serialized events tags parent_run_id parent_run_ids child_run_ids dotted_order status
        reference_example_id first_token_time prompt_tokens completion_tokens total_tokens
        prompt_cost completion_cost total_cost app_path manifest_id in_dataset feedback_stats
        inputs_preview outputs_preview share_token trace_tier ttl_seconds price_model_id thread_id
        last_queued_at execution_order messages
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return isinstance(record.get("run_type"), str) and isinstance(record.get("inputs"), dict)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        if record["run_type"] != "llm":
            return
        body = _body(record)
        generation = _first_generation(record.get("outputs"))
        metadata = field_of(record, "extra.metadata") or {}
        answer = generation.get("message")
        yield self.request(
            line,
            read_body(body),
            session=first_of((*_SESSIONS,), metadata) or record.get("trace_id"),
            time=record.get("start_time"),
            response=_message("outputs", answer) if isinstance(answer, dict) else generation.get("text"),
            usage=read_usage(
                field_of(generation, "message.kwargs.usage_metadata")
                or first_of(
                    ("outputs.usage_metadata", "outputs.usage", "outputs.llm_output.token_usage"), record
                )
            ),
        )


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    inputs = record["inputs"]
    settings = field_of(record, "extra.invocation_params")
    settings = settings if isinstance(settings, dict) else {}
    body = {name: settings[name] for name in _SETTINGS if name in settings}
    messages = inputs.get("messages")
    if isinstance(messages, list) and messages:
        if isinstance(messages[0], list):
            messages = messages[0]
        made = [_message(f"inputs.messages[{i}]", message) for i, message in enumerate(messages)]
        return {**body, **inputs, "messages": made}
    prompts = inputs.get("prompts")
    if isinstance(prompts, list) and prompts:
        return {**body, **inputs, "prompts": None, "prompt": prompts[0]}
    if holds_prompt(inputs):
        return {**body, **inputs}
    raise InvalidRecordError("inputs holds no prompt")


def _first_generation(outputs: Any) -> Mapping[str, Any]:
    found = outputs.get("generations") if isinstance(outputs, dict) else None
    while isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _message(name: str, message: Any) -> Message:
    """A message in the form of chat completions, of LangChain's `{id, kwargs}` or as it is."""
    message = as_object(name, message)
    kwargs = message.get("kwargs") if "kwargs" in message else message.get("data")
    if not isinstance(kwargs, dict):
        kwargs = message
    if isinstance(kwargs.get("role"), str) and "type" not in kwargs:
        return dict(kwargs)
    kind = kwargs.get("type")
    if not isinstance(kind, str) or kind not in _ROLES:
        names = message.get("id")
        last = str(names[-1]) if isinstance(names, list) and names else str(kind or "")
        kind = last.removesuffix("Chunk").removesuffix("Message").lower()
    role = _ROLES.get(kind) or kwargs.get("role")
    if not isinstance(role, str):
        raise InvalidRecordError(f"{name} is of type {kind}, which is not known")
    made: Message = {"role": role, "content": kwargs.get("content")}
    extra = kwargs.get("additional_kwargs")
    extra = extra if isinstance(extra, dict) else {}
    calls = extra.get("tool_calls")
    if not calls and isinstance(kwargs.get("tool_calls"), list):
        calls = [
            tool_call(call.get("id"), call.get("name"), call.get("args"))
            for call in kwargs["tool_calls"]
            if isinstance(call, dict)
        ]
    for field, value in (
        ("tool_calls", calls),
        ("function_call", extra.get("function_call")),
        ("tool_call_id", kwargs.get("tool_call_id")),
        ("name", kwargs.get("name")),
        ("reasoning_content", extra.get("reasoning_content")),
    ):
        if value:
            made[field] = value
    if isinstance(made["content"], list):
        # blocks of tool calls repeat `tool_calls`
        made["content"] = [part for part in made["content"] if not (calls and _is_call(part))]
    return made


def _is_call(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "tool_use"
