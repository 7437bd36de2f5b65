"""LiteLLM: rows of its spend logs, and the payload that its logging callbacks get.

`proxy_server_request` is the body as it came; without it there are `messages`, and the tools among
`model_parameters`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import holds_prompt, read_body
from radixcache.logs.exports.json_fields import unpacked
from radixcache.logs.fields import field_of
from radixcache.logs.format import Format, Line, first_of
from radixcache.logs.record import BadLine, InvalidRecordError, LogRequest
from radixcache.logs.requests import response_usage
from radixcache.logs.usage import read_usage

__all__ = ["LiteLLM"]

_OTHER_CALLS = ("embedding", "image", "speech", "transcription", "moderation", "rerank", "file", "batch")


class LiteLLM(Format):
    """Requests as LiteLLM logs them; calls that have no prompt are passed over."""

    name = "litellm"
    fields = "call_type, with proxy_server_request or messages"
    known = frozenset(
        """
        request_id id call_type api_key spend total_tokens prompt_tokens completion_tokens startTime
        endTime completionStartTime start_time end_time model model_id model_group
        custom_llm_provider api_base user metadata cache_hit cache_key saved_cache_cost request_tags
        team_id organization_id end_user requester_ip_address messages response proxy_server_request
        session_id trace_id status mcp_namespaced_tool_name agent_id response_cost cost_breakdown
        stream model_parameters optional_params hidden_params model_map_information error_str
        error_information response_time usage_object guardrail_information
        standard_built_in_tools_params litellm_call_id response_cost_failure_debug_info
        status_fields
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return isinstance(record.get("call_type"), str) and any(
            name in record for name in ("messages", "proxy_server_request", "model_parameters")
        )

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        if any(kind in record["call_type"] for kind in _OTHER_CALLS):
            return
        response = unpacked(record.get("response"))
        usage = response_usage(response) or first_of(
            ("metadata.usage_object", "usage_object"), _with_metadata(record)
        )
        yield self.request(
            line,
            read_body(_body(record)),
            session=first_of(("session_id", "metadata.session_id", "trace_id"), _with_metadata(record)),
            time=first_of(("startTime", "start_time"), record),
            response=response,
            usage=read_usage(usage or record),
        )


def _with_metadata(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "metadata": unpacked(record.get("metadata"))}


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    sent = unpacked(record.get("proxy_server_request"))
    if isinstance(sent, dict) and isinstance(sent.get("body"), dict):
        sent = sent["body"]
    if isinstance(sent, dict) and holds_prompt(sent):
        return sent
    messages = unpacked(record.get("messages"))
    if not messages:
        raise InvalidRecordError("messages is empty: LiteLLM was not told to store prompts")
    parameters = unpacked(record.get("model_parameters"))
    body = {**(parameters if isinstance(parameters, dict) else {}), "model": record.get("model")}
    if field_of(record, "optional_params.tools"):
        body.setdefault("tools", field_of(record, "optional_params.tools"))
    return {**body, "prompt" if isinstance(messages, str) else "messages": messages}
