"""A row a request, held as columns of numbers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from radixcache.workload.spool import TokenSpool

__all__ = ["COLUMNS", "RequestTable"]

COLUMNS = (
    "source",
    "line",
    "session",
    "timestamp",
    "namespace",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "cause",
    "part",
    "token",
    "earlier_source",
    "earlier_line",
)
"""`cause` is that of most missed tokens; `part`, `token` and the earlier request say where the prompt parted
from it. What does not apply is null, and so is `part` of requests that were not looked at."""


@dataclass(frozen=True, slots=True)
class RequestTable:
    """Rows in order of arrival; some 90 bytes a request.

    Attributes:
        spool: the calls of the log.
        order: their order of arrival.
        cached: tokens reused, by index of the call; so are the others.
        causes: index into `cause_names`.
        tokens: where the prompt parted from what was known, -1 if it did not.
        partners: index of the earlier request, -1 if there is none.
        cause_names: causes by number.
        parts: the part where they parted, of those that were looked at.
    """

    spool: TokenSpool
    order: Sequence[int]
    cached: array[int]
    causes: array[int]
    tokens: array[int]
    partners: array[int]
    cause_names: Sequence[str]
    parts: dict[int, str] = field(default_factory=dict)

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        return COLUMNS

    def rows(self) -> Iterator[list[Any]]:
        """The rows, made one by one."""
        spool = self.spool
        sources = spool.source_names.texts
        for index in self.order:
            partner, token = self.partners[index], self.tokens[index]
            known = partner >= 0 and token >= 0
            yield [
                sources[spool.sources[index]],
                spool.lines[index],
                spool.session(index),
                spool.timestamp(index),
                spool.namespace(index),
                spool.prompt_tokens[index],
                self.cached[index],
                spool.output_tokens[index],
                self.cause_names[self.causes[index]],
                self.parts.get(index),
                token if token >= 0 else None,
                sources[spool.sources[partner]] if known else None,
                spool.lines[partner] if known else None,
            ]
