"""A log read once: token ids for the cache and records for people on disk, and what prices need of both."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from radixcache.doctor.settings import DoctorSettings
from radixcache.logs import BadLine, LineRules, LogRequest, read_logs
from radixcache.logs.answer import answer_of
from radixcache.logs.folders import expand_folders
from radixcache.models import EMBEDDED_MODEL
from radixcache.prompts.encode import PromptEncoder
from radixcache.workload.load import Encoder, stream_calls
from radixcache.workload.spool import RecordSpool, TokenSpool

__all__ = ["LogSource", "PricedEncoder", "read_spools", "retokenise"]


class LogSource:
    """Logs, read once, and an encoder that is made when the first text comes.

    Args:
        logs: files, folders, or `-` for standard input.
        tokenizer: a model's name or folder; None for the embedded model's where there is text. Token ids are
            shown as text only if it is named.
        strict, limit, trace_block, rules: as in `read_logs`.
        on_bad_line: told of every line that is skipped.
        on_note: told of what was not read of a request, as in `read_logs`.
        notify: told, in one line, what takes long.
    """

    def __init__(
        self,
        logs: Sequence[str],
        tokenizer: str | None = None,
        *,
        strict: bool = False,
        limit: int | None = None,
        trace_block: int | None = 512,
        rules: LineRules | None = None,
        on_bad_line: Callable[[BadLine], None] = lambda _: None,
        on_note: Callable[[str], None] = lambda _: None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.files = tuple(expand_folders(logs))
        self.strict = strict
        self.limit = limit
        self.bad_lines = 0
        self._trace_block = trace_block
        self._rules = rules or LineRules()
        self._on_bad_line = on_bad_line
        self._on_note = on_note
        self.notify = notify
        self._named = tokenizer
        self._encoder: PromptEncoder | None = None

    def requests(self) -> Iterator[LogRequest]:
        """The requests; errors as `read_logs`."""
        return read_logs(
            self.files,
            strict=self.strict,
            on_bad_line=self.skip,
            on_note=self._on_note,
            limit=self.limit,
            trace_block=self._trace_block,
            rules=self._rules,
            must_find=True,
        )

    def skip(self, bad: BadLine) -> None:
        """Count a request that is left out."""
        self.bad_lines += 1
        self._on_bad_line(bad)

    def encoder(self) -> PromptEncoder:
        """The encoder; ModelError as `load_tokenizer`."""
        if self._encoder is None:
            from radixcache.models.tokenizing import load_tokenizer

            name = self._named or EMBEDDED_MODEL
            self._encoder = PromptEncoder(load_tokenizer(name, notify=self.notify), name, media=True)
        return self._encoder

    def reader(self) -> PromptEncoder | None:
        """An encoder to show texts with: the one in use, or the one that was named; else None."""
        return self.encoder() if self._encoder is not None or self._named is not None else None

    @property
    def tokenizer_name(self) -> str | None:
        """Which tokenizer was used; None if none was."""
        return (self._named or EMBEDDED_MODEL) if self._encoder is not None else None


class PricedEncoder:
    """Encodes what its encoder does, with the same ids, and looks at what prices depend on.

    Args:
        make: makes the encoder; called at the first text.
    """

    def __init__(self, make: Callable[[], PromptEncoder]) -> None:
        self._make = make
        self._encoder: PromptEncoder | None = None
        self._latest: tuple[LogRequest, array[int] | None] | None = None

    def encode(self, request: LogRequest) -> array[int]:
        """Token ids of a prompt; errors as `PromptEncoder.encode`."""
        encoder = self._made()
        if request.messages is None:
            return encoder.encode(request)
        ids, ends = encoder.render(request.messages, request.tools, request.template_kwargs)
        self._latest = request, ends
        return ids

    def encode_answer(self, text: str) -> array[int]:
        """Token ids of an answer as it follows a prompt."""
        return self._made().encode_answer(text)

    def ends(self, request: LogRequest) -> array[int] | None:
        """Where the messages of the request that was encoded last end, in tokens; None if that is not known.

        The first is the end of the tools and system messages that open the prompt, taken together.
        """
        if self._latest is None or self._latest[0] is not request:
            return None
        return self._latest[1]

    def answer_tokens(self, request: LogRequest) -> int | None:
        """Tokens of an answer, counted from its text or tool calls.

        None if its length is logged, or there is neither. A prompt of token ids is of a tokenizer that is not
        known; no answer to one is counted.
        """
        if request.blocks is not None or request.prompt_token_ids is not None:
            return None
        answer = answer_of(request)
        text = answer.text or answer.tool_calls
        if answer.token_ids is not None or answer.tokens or text is None:
            return None
        return len(self.encode_answer(text))

    def _made(self) -> PromptEncoder:
        if self._encoder is None:
            self._encoder = self._make()
        return self._encoder


def read_spools(
    log: Iterable[LogRequest],
    make_encoder: Callable[[], PromptEncoder],
    settings: DoctorSettings,
    *,
    priced: bool = False,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[RecordSpool, TokenSpool]:
    """Read a log once, in bounded memory.

    Args:
        priced: find out what prices need, too: where messages end, and how long answers are of which there
            is only the text. Those are counted, not kept.
        log, make_encoder, strict, on_bad_line, on_progress: as in `stream_calls`, as are the errors.
        settings: how the log is simulated.
    """
    records = RecordSpool()
    pricing = PricedEncoder(make_encoder) if priced else None
    made = make_encoder if pricing is None else lambda: pricing
    tokens = _tokens(log, made, settings, records, strict, on_bad_line, on_progress, pricing)
    return records, tokens


def retokenise(
    log: Iterable[LogRequest],
    encoder: Encoder,
    settings: DoctorSettings,
    on_progress: Callable[[int], None] = lambda _: None,
) -> TokenSpool:
    """The calls of a rewritten log; a request that cannot be tokenised any more is an error."""
    return _tokens(log, lambda: encoder, settings, None, True, lambda _: None, on_progress)


def _tokens(
    log: Iterable[LogRequest],
    make_encoder: Callable[[], Encoder],
    settings: DoctorSettings,
    records: RecordSpool | None,
    strict: bool,
    on_bad_line: Callable[[BadLine], None],
    on_progress: Callable[[int], None],
    pricing: PricedEncoder | None = None,
) -> TokenSpool:
    spool = TokenSpool()
    for entry, call in stream_calls(
        log,
        make_encoder,
        namespace_by=settings.namespace_by,
        answers=settings.outputs or settings.arrivals == "timestamps",
        strict=strict,
        on_bad_line=on_bad_line,
        on_progress=on_progress,
    ):
        if entry.blocks is not None:
            spool.unit_tokens = entry.blocks.block_tokens
        if records is not None:
            records.append(entry)
        counted = None if pricing is None else pricing.answer_tokens(entry)
        if counted is not None:
            spool.counted_answers += 1
        spool.append(
            call if counted is None else replace(call, output_tokens=counted),
            call.namespace,
            None if pricing is None else pricing.ends(entry),
        )
    return spool
