"""The requests of a replay, tokenised and in the order in which they will be submitted."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from radixcache.errors import LogError
from radixcache.logs import LogRequest
from radixcache.logs.namespace import sharing_namespace
from radixcache.prompts.encode import EncodeError, PromptEncoder
from radixcache.replay.settings import ReplaySettings
from radixcache.workload.interleave import interleave

__all__ = ["ReplayRequest", "prepare"]


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """One request ready to be submitted.

    Attributes:
        index: its place in the order of submission, from 0.
        source, line: where it stands in the log.
        session: the conversation it belongs to.
        namespace: the cache namespace it runs in.
        tokens: prompt token ids, int32; empty if `error` is set.
        max_tokens: the most new tokens to generate.
        timestamp: seconds.
        error: why it cannot be submitted.
    """

    index: int
    source: str
    line: int
    session: str | None
    namespace: str
    tokens: array[int]
    max_tokens: int
    timestamp: float | None
    error: str | None = None


def prepare(
    log: Iterable[LogRequest],
    encoder: PromptEncoder,
    settings: ReplaySettings,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[ReplayRequest]:
    """Tokenise and order the requests of a log; of the log itself only the token ids are kept.

    `on_progress` is told how many are done. A request that cannot be encoded keeps its place, with `error`.

    Raises:
        LogError: if there is no request, a timestamp is needed and missing, or the namespace field is no
            plain value or is missing everywhere.
        ModelError: if the model cannot take this kind of log at all.
    """
    requests: list[ReplayRequest] = []
    namespaces = 0
    for entry in log:
        if settings.arrivals == "timestamps" and entry.timestamp is None:
            raise LogError(
                f"{entry.source}, line {entry.line}: timestamp is missing; arrivals by timestamp need it"
            )
        namespace, found = sharing_namespace(entry, settings.namespace_by)
        namespaces += found
        requests.append(_prepare(len(requests), entry, namespace, encoder, settings.max_tokens))
        on_progress(len(requests))
    if not requests:
        raise LogError("no request to replay was found")
    if settings.namespace_by is not None and not namespaces:
        raise LogError(f"no request has the field {settings.namespace_by} to take its namespace from")
    return _in_order(requests, settings)


def _prepare(
    index: int, entry: LogRequest, namespace: str, encoder: PromptEncoder, max_tokens: int
) -> ReplayRequest:
    error = None
    try:
        tokens = encoder.encode(entry)
    except EncodeError as reason:
        tokens, error = array("i"), str(reason)
    return ReplayRequest(
        index=index,
        source=entry.source,
        line=entry.line,
        session=entry.session,
        namespace=namespace,
        tokens=tokens,
        max_tokens=min(max_tokens, entry.max_tokens or max_tokens),
        timestamp=entry.timestamp,
        error=error,
    )


def _in_order(requests: list[ReplayRequest], settings: ReplaySettings) -> list[ReplayRequest]:
    if settings.arrivals == "timestamps":
        requests = sorted(requests, key=lambda request: request.timestamp or 0.0)
    elif settings.interleave is not None:
        requests = interleave(requests, settings.interleave, lambda request: request.session)
    return [replace(request, index=index) for index, request in enumerate(requests)]
