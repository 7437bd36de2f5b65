"""From logged requests to what a cache sees of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Protocol

from radixcache.errors import LogError
from radixcache.logs.answer import answer_of
from radixcache.logs.namespace import sharing_namespace
from radixcache.logs.record import BadLine, BlockTrace, LogRequest
from radixcache.prompts.encode import EncodeError
from radixcache.tokens import PackedTokens, pack
from radixcache.workload.spool import spill_to_disk
from radixcache.workload.workload import Call, Workload

__all__ = ["Encoder", "load_workload", "stream_calls"]


class Encoder(Protocol):
    """What turns text into token ids; `radixcache.prompts.encode.PromptEncoder` is one."""

    def encode(self, request: LogRequest) -> array[int]: ...
    def encode_answer(self, text: str) -> array[int]: ...


def load_workload(
    log: Iterable[LogRequest],
    make_encoder: Callable[[], Encoder],
    *,
    namespace_by: str | None = None,
    answers: bool = False,
    on_disk: bool = False,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Workload:
    """Read a log into memory: 4 bytes a token of text or a block of a trace, and some 400 a request.

    Args:
        log: requests, from `read_logs`.
        make_encoder: called at the first text, so that logs of token ids and traces need no tokenizer.
        namespace_by: field whose value is the namespace; without one it is empty, and in a trace of agent
            sessions whose ids are local the session.
        answers: also tokenise answers that were logged as text.
        on_disk: keep prompts in a temporary file, for curves alone; see `spill_to_disk`.
        strict: raise for a request that cannot be tokenised instead of skipping it.
        on_bad_line: told of every request that is skipped.
        on_progress: told how many are done.

    Raises:
        LogError: no request, requests whose units differ in size, or a namespace field that is no plain
            value or missing everywhere; with `strict` a request that cannot be tokenised.
        ModelError: the model has no tokenizer, or no chat template, and the log needs one.
    """
    unit_tokens = 1

    def calls() -> Iterator[Call]:
        nonlocal unit_tokens
        for entry, call in stream_calls(
            log,
            make_encoder,
            namespace_by=namespace_by,
            answers=answers,
            strict=strict,
            on_bad_line=on_bad_line,
            on_progress=on_progress,
        ):
            unit_tokens = _unit_tokens(entry)
            yield call

    kept = list(spill_to_disk(calls()) if on_disk else calls())
    return Workload(unit_tokens, kept)


def stream_calls(
    log: Iterable[LogRequest],
    make_encoder: Callable[[], Encoder],
    *,
    namespace_by: str | None = None,
    answers: bool = False,
    strict: bool = False,
    on_bad_line: Callable[[BadLine], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[LogRequest, Call]]:
    """The same one by one, each with its request, keeping none; arguments and errors as `load_workload`."""
    loader = _Loader(make_encoder, namespace_by, answers)
    first: LogRequest | None = None
    done = 0
    for entry in log:
        if first is None:
            first = entry
        elif _unit_tokens(entry) != _unit_tokens(first):
            raise LogError(
                f"{entry.source}, line {entry.line}: {_kind(entry)}, but {first.source}, line {first.line} "
                f"has {_kind(first)}: simulate them one at a time"
            )
        try:
            yield entry, loader.call(entry)
            done += 1
        except EncodeError as error:
            bad = BadLine(entry.source, entry.line, str(error))
            if strict:
                raise LogError(str(bad)) from None
            on_bad_line(bad)
        on_progress(done)
    if not done:
        raise LogError("no request to simulate was found")
    if namespace_by is not None and not loader.namespaces:
        raise LogError(f"no request has the field {namespace_by} to take its namespace from")


def _unit_tokens(entry: LogRequest) -> int:
    return 1 if entry.blocks is None else entry.blocks.block_tokens


def _kind(entry: LogRequest) -> str:
    return "a prompt" if entry.blocks is None else f"hashes of blocks of {entry.blocks.block_tokens} tokens"


class _Numbers(dict[int | str, int]):
    """Numbers for the hashes of one scope, each given out at the first sight of its hash."""

    def __init__(self, fresh: Iterator[int]) -> None:
        super().__init__()
        self._fresh = fresh

    def __missing__(self, name: int | str) -> int:
        number = self[name] = next(self._fresh)
        return number


class _Loader:
    """Makes calls of requests, numbering the blocks of traces as they appear."""

    def __init__(self, make_encoder: Callable[[], Encoder], namespace_by: str | None, answers: bool) -> None:
        self._make_encoder = make_encoder
        self._encoder: Encoder | None = None
        self._namespace_by = namespace_by
        self._answers = answers
        self._numbers: dict[str, _Numbers] = {}
        self._fresh = count()
        self.namespaces = 0

    def call(self, entry: LogRequest) -> Call:
        default = "" if entry.blocks is None else entry.blocks.namespace
        namespace, found = sharing_namespace(entry, self._namespace_by, default)
        self.namespaces += found
        output = PackedTokens()
        if entry.blocks is not None:
            units = self._blocks(entry.blocks)
            prompt_tokens, output_tokens = entry.blocks.prompt_tokens, entry.blocks.output_tokens
        else:
            units = self._prompt(entry)
            prompt_tokens = len(units) // 4
            output, output_tokens = self._answer(entry)
        return Call(
            namespace=namespace,
            units=units,
            prompt_tokens=prompt_tokens,
            output=output,
            output_tokens=output_tokens,
            session=entry.session,
            timestamp=entry.timestamp,
            source=entry.source,
            line=entry.line,
        )

    def _blocks(self, blocks: BlockTrace) -> PackedTokens:
        """Dense ids of the hashes; what has no hash gets ids that never come again."""
        names = self._numbers.setdefault(blocks.scope, _Numbers(self._fresh))
        units = [names[name] for name in blocks.hash_ids]
        rest = -(-blocks.prompt_tokens // blocks.block_tokens) - len(units)
        units += islice(self._fresh, rest)
        return pack(units)

    def _prompt(self, entry: LogRequest) -> PackedTokens:
        if entry.prompt_token_ids is not None:
            return pack(entry.prompt_token_ids)
        return pack(self._text_encoder().encode(entry))

    def _answer(self, entry: LogRequest) -> tuple[PackedTokens, int]:
        answer = answer_of(entry)
        if answer.token_ids is not None:
            # an engine stops at the last token and never computes its keys and values
            return pack(answer.token_ids[:-1]), len(answer.token_ids)
        if answer.text is None or not self._answers or entry.prompt_token_ids is not None:
            return PackedTokens(), answer.tokens or 0
        output = pack(self._text_encoder().encode_answer(answer.text))
        return output, answer.tokens or len(output) // 4

    def _text_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._make_encoder()
        return self._encoder
