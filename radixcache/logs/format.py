"""What a format of logs is: it recognises its records, and reads them one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from radixcache.logs.canonical import as_record
from radixcache.logs.fields import SESSION_FIELDS, TIME_FIELDS, describe, field_of, read_text, read_time
from radixcache.logs.record import BadLine, BlockTrace, Body, LogRequest
from radixcache.logs.rules import LineRules
from radixcache.logs.unread import unread_text
from radixcache.logs.usage import Usage

__all__ = ["Format", "Line", "first_of", "session_of", "time_of"]


class Line(NamedTuple):
    """A record of a log, and where it is."""

    source: str
    number: int
    record: dict[str, Any]


class Format(ABC):
    """A format; one object reads one log, and may remember what it has read.

    Attributes:
        name: as users know it.
        fields: the fields that it is recognised by, for messages.
        known: the fields of a record that are read, or are no part of a prompt; None where the record is
            the body that holds the prompt. A note tells of text in any other field.
    """

    name: ClassVar[str]
    fields: ClassVar[str]
    known: ClassVar[frozenset[str] | None] = None

    def __init__(self, rules: LineRules, trace_block: int | None) -> None:
        """Read by these rules; hashes stand for `trace_block` tokens where a trace does not say."""
        self.rules = rules
        self.trace_block = trace_block

    @abstractmethod
    def claims(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is of this format."""

    @abstractmethod
    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        """The requests of a record: one, several, or none yet.

        Raises:
            InvalidRecordError: the record is of this format and wrong; names the field.
        """

    def finish(self) -> Iterator[LogRequest | BadLine]:
        """The requests that were still being put together when the log ended."""
        return iter(())

    def request(
        self,
        line: Line,
        body: Body,
        *,
        session: Any = None,
        time: Any = None,
        time_unit: str | None = None,
        response: Any = None,
        usage: Usage | None = None,
        blocks: BlockTrace | None = None,
        partial: str = "",
        max_tokens: int | None = None,
        raw: dict[str, Any] | None = None,
        own_record: bool = False,
    ) -> LogRequest:
        """A request of a record; the rules' fields take the place of `session` and `time`.

        With `own_record` the record tells of more than this request, which gets one by itself.

        A session or time that is none counts as absent, with a note.
        """
        rules, notes = self.rules, list(body.notes)
        if self.known is not None:
            notes += unread_text("", line.record, self.known)
        if rules.session_field is not None:
            session = field_of(line.record, rules.session_field)
        if rules.time_field is not None:
            time = field_of(line.record, rules.time_field)
        seconds = None
        if time is not None:
            try:
                seconds = read_time(time, rules.time_unit or time_unit)
            except ValueError:
                notes.append(
                    f"{rules.time_field or 'the time'} of a request cannot be read and is taken as absent"
                )
        name = read_text(session)
        if session is not None and name is None:
            notes.append(
                f"{rules.session_field or 'the session'} is {describe(session)}, and is taken as absent"
            )
        request = LogRequest(
            source=line.source,
            line=line.number,
            messages=body.messages,
            tools=body.tools,
            prompt=body.text,
            prompt_token_ids=body.token_ids,
            session=name,
            timestamp=seconds,
            max_tokens=body.max_tokens if max_tokens is None else max_tokens,
            response=response,
            raw=line.record if raw is None else raw,
            blocks=blocks,
            format=self.name,
            template_kwargs=body.template_kwargs,
            model=body.model,
            adapter=body.adapter,
            cache_salt=body.cache_salt,
            usage=usage,
            notes=tuple(notes),
            partial=partial,
        )
        return replace(request, raw=as_record(request)) if own_record else request


def first_of(names: tuple[str, ...], *records: Mapping[str, Any]) -> Any:
    """The first value that is not null among some fields of some records."""
    return next((found for r in records for name in names if (found := field_of(r, name)) is not None), None)


def session_of(*records: Mapping[str, Any]) -> Any:
    """The session that records name by one of the usual fields."""
    return first_of(SESSION_FIELDS, *records)


def time_of(*records: Mapping[str, Any]) -> Any:
    """The time that records have under one of the usual fields."""
    return first_of(TIME_FIELDS, *records)
