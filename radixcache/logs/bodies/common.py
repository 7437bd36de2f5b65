"""Fields beside the prompt that every API's body may have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from radixcache.logs.fields import field_of, read_max_tokens, read_text
from radixcache.logs.unread import unread_text

__all__ = ["Common", "read_common", "unread_beside"]

TEMPLATE_FIELDS = ("reasoning_effort", "documents", "add_generation_prompt", "continue_final_message")
"""Fields of a body that a chat template is given, beside `chat_template_kwargs`."""

_MAX_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")
# Settings, names and answers of requests: no part of a prompt, though they may be text.
OTHER_FIELDS = frozenset(
    """
    model adapter lora_adapter lora lora_name model_name cache_salt prompt_cache_key
    prompt_cache_options prompt_cache_retention prompt_cache_breakpoint cache_control stream
    stream_options n best_of stop stop_sequences stop_token_ids seed temperature top_p top_k min_p
    frequency_penalty presence_penalty repetition_penalty logit_bias logprobs top_logprobs
    prompt_logprobs echo ignore_eos min_tokens max_tokens max_completion_tokens max_output_tokens
    max_new_tokens response_format tool_choice function_call parallel_tool_calls modalities audio
    prediction service_tier store metadata user verbosity safety_identifier reasoning thinking effort
    truncation include background max_tool_calls betas anthropic_version anthropic_beta container
    context_management output_config mcp_servers guided_json guided_regex guided_choice guided_grammar
    structured_outputs extra_body extra_headers skip_special_tokens sampling_params parameters provider
    route routes models transforms plugins usage timeout api_key api_base priority request_id rid id
    object created custom_id method url type status error index name tags session_id session
    conversation_id thread_id chat_id parent_chat_id tenant turn step run_id trace_id organization
    project environment created_at timestamp time delay start_time end_time startTime endTime response
    responses output outputs completion choices answer output_token_ids response_token_ids
    completion_token_ids output_length output_tokens completion_tokens prompt_tokens input_length
    system_fingerprint finish_reason weight raw keep_alive options format
    """.split()  # noqa: SIM905 - words are easier to read
)


class Common(NamedTuple):
    """What `Body` has beside its prompt."""

    template_kwargs: dict[str, Any]
    max_tokens: int | None
    model: str | None
    adapter: str | None
    cache_salt: str | None
    notes: tuple[str, ...]


def read_common(
    body: Mapping[str, Any], prompt_fields: Collection[str], *, max_tokens: tuple[str, ...] = _MAX_TOKENS
) -> Common:
    """Settings of a body, and notes on its fields that nobody reads.

    Args:
        body: the body.
        prompt_fields: fields that the API's reader reads, or that are known not to be part of a prompt there.
        max_tokens: fields with the limit on new tokens.
    """
    limit, notes = read_max_tokens(body, *max_tokens)
    kwargs = body.get("chat_template_kwargs")
    template = dict(kwargs) if isinstance(kwargs, Mapping) else {}
    template.update({name: body[name] for name in TEMPLATE_FIELDS if body.get(name) is not None})
    known = (*prompt_fields, *TEMPLATE_FIELDS, "chat_template_kwargs")
    return Common(
        template,
        limit,
        read_text(body.get("model")),
        _first(body, "adapter", "lora_adapter", "lora_name", "lora.name", "lora_path"),
        _first(body, "cache_salt"),
        notes + unread_beside(body, known),
    )


def unread_beside(record: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """Notes on fields of a record that hold text, beside those that are `known` and settings."""
    others = {name: value for name, value in record.items() if name not in OTHER_FIELDS}
    return unread_text("", others, known)


def _first(body: Mapping[str, Any], *names: str) -> str | None:
    return next((text for name in names if (text := read_text(field_of(body, name)))), None)
