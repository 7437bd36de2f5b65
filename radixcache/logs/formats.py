"""Every format, in the order in which a record is offered to them: those that wrap a request come first."""

from __future__ import annotations

from radixcache.logs.exports.batch import Batches
from radixcache.logs.exports.helicone import Helicone
from radixcache.logs.exports.langfuse import Langfuse
from radixcache.logs.exports.langsmith import LangSmith
from radixcache.logs.exports.litellm import LiteLLM
from radixcache.logs.exports.otel import OpenTelemetry
from radixcache.logs.exports.wrapped import OpenPipe, SageMaker, StoredCompletions
from radixcache.logs.format import Format
from radixcache.logs.requests import Requests
from radixcache.logs.servers.sglang import SGLang
from radixcache.logs.servers.vllm import VLLM
from radixcache.logs.traces.agent_session import AgentSessions
from radixcache.logs.traces.aiperf import AIPerf
from radixcache.logs.traces.mooncake import HashTrace
from radixcache.logs.transcripts.claude_code import ClaudeCode
from radixcache.logs.transcripts.codex import Codex
from radixcache.logs.transcripts.sharegpt import ShareGPT

__all__ = ["FORMATS", "list_formats"]

FORMATS: tuple[type[Format], ...] = (
    VLLM,
    Batches,
    Helicone,
    LiteLLM,
    Langfuse,
    LangSmith,
    OpenTelemetry,
    OpenPipe,
    SageMaker,
    StoredCompletions,
    SGLang,
    ClaudeCode,
    Codex,
    ShareGPT,
    AIPerf,
    Requests,
    AgentSessions,
    HashTrace,
)


def list_formats() -> str:
    """The formats, each with the fields that it is recognised by."""
    return "; ".join(f"{kind.name} ({kind.fields})" for kind in FORMATS)
