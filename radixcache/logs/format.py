"""What a format of logs is: it recognises its records, and reads them one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from radixcache.logs.fields import SESSION_FIELDS, TIME_FIELDS, describe, field_of, read_text, read_time
from radixcache.logs.record import BadLine, BlockTrace, Body, LogRequest
from radixcache.logs.unread import unread_text
from radixcache.logs.usage import Usage

__all__ = ["Format", "Line", "ReadOptions", "first_of", "session_of", "time_of"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a log is read.

    Attributes:
        trace_block: tokens that a hash stands for where a trace does not say; None if hashes are of no use.
        session_field, time_field, prompt_field: field (dotted path) of the record with the session, time or
            prompt, if the formats do not know its name; None to go by the format.
        time_unit: "s", "ms", "us" or "ns" of numbers that are times; None to go by the format and their size.
    """

    trace_block: int | None = None
    session_field: str | None = None
    time_field: str | None = None
    prompt_field: str | None = None
    time_unit: str | None = None


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

    def __init__(self, options: ReadOptions) -> None:
        self.options = options

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
    ) -> LogRequest:
        """A request of a record; the options' fields take the place of `session` and `time`.

        A session or time that is none counts as absent, with a note.
        """
        options, notes = self.options, list(body.notes)
        if self.known is not None:
            notes += unread_text("", line.record, self.known)
        if options.session_field is not None:
            session = field_of(line.record, options.session_field)
        if options.time_field is not None:
            time = field_of(line.record, options.time_field)
        seconds = None
        if time is not None:
            try:
                seconds = read_time(time, options.time_unit or time_unit)
            except ValueError:
                notes.append(
                    f"{options.time_field or 'the time'} of a request cannot be read and is taken as absent"
                )
        name = read_text(session)
        if session is not None and name is None:
            notes.append(
                f"{options.session_field or 'the session'} is {describe(session)}, and is taken as absent"
            )
        return LogRequest(
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


def first_of(names: tuple[str, ...], *records: Mapping[str, Any]) -> Any:
    """The first value that is not null among some fields of some records."""
    return next((found for r in records for name in names if (found := field_of(r, name)) is not None), None)


def session_of(*records: Mapping[str, Any]) -> Any:
    """The session that records name by one of the usual fields."""
    return first_of(SESSION_FIELDS, *records)


def time_of(*records: Mapping[str, Any]) -> Any:
    """The time that records have under one of the usual fields."""
    return first_of(TIME_FIELDS, *records)
