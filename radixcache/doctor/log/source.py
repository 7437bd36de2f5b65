"""Where the doctor's requests come from, and the tokenizer that they go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from radixcache.logs import BadLine, LineRules, LogRequest, read_logs
from radixcache.logs.folders import expand_folders
from radixcache.models import EMBEDDED_MODEL
from radixcache.prompts.pieces import PieceEncoder

__all__ = ["LogSource"]


class LogSource:
    """Logs, read once, and an encoder that is made when the first text comes.

    Args:
        logs: files, folders, or `-` for standard input.
        tokenizer: a model's name or folder; None for the embedded model's where there is text. Token ids are
            shown as text only if it is named.
        strict, limit, trace_block, rules: as in `read_logs`.
        on_bad_line: told of every line that is skipped.
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
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.files = tuple(expand_folders(logs))
        self.strict = strict
        self.limit = limit
        self.bad_lines = 0
        self._trace_block = trace_block
        self._rules = rules or LineRules()
        self._on_bad_line = on_bad_line
        self.notify = notify
        self._named = tokenizer
        self._encoder: PieceEncoder | None = None

    def requests(self) -> Iterator[LogRequest]:
        """The requests; errors as `read_logs`."""
        return read_logs(
            self.files,
            strict=self.strict,
            on_bad_line=self.skip,
            limit=self.limit,
            trace_block=self._trace_block,
            rules=self._rules,
            must_find=True,
        )

    def skip(self, bad: BadLine) -> None:
        """Count a request that is left out."""
        self.bad_lines += 1
        self._on_bad_line(bad)

    def encoder(self) -> PieceEncoder:
        """The encoder; ModelError as `load_tokenizer`."""
        if self._encoder is None:
            from radixcache.models.tokenizing import load_tokenizer

            name = self._named or EMBEDDED_MODEL
            self._encoder = PieceEncoder(load_tokenizer(name, notify=self.notify), name)
        return self._encoder

    def reader(self) -> PieceEncoder | None:
        """An encoder to show texts with: the one in use, or the one that was named; else None."""
        return self.encoder() if self._encoder is not None or self._named is not None else None

    @property
    def tokenizer_name(self) -> str | None:
        """Which tokenizer was used; None if none was."""
        return (self._named or EMBEDDED_MODEL) if self._encoder is not None else None
