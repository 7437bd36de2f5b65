"""Logs in another form: chat completions, or a trace of block hashes that holds no text."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

from radixcache.logs.answer import answer_of
from radixcache.logs.canonical import as_record
from radixcache.logs.record import LogRequest
from radixcache.tokens import TOKEN_BYTES, pack

__all__ = ["TraceWriter", "as_openai"]

Encode = Callable[[LogRequest], "array[int]"]


def as_openai(entry: LogRequest, number: int) -> dict[str, Any]:
    """A line of an OpenAI batch's input: the body of a chat completion, or of a completion.

    Args:
        number: of the request, which names it.

    Raises:
        ValueError: the request is of block hashes.
    """
    record = as_record(entry)
    body = {
        name: record[name]
        for name in ("model", "messages", "tools", "prompt", "max_tokens", "chat_template_kwargs")
        if name in record
    }
    if "prompt_token_ids" in record:
        body["prompt"] = record["prompt_token_ids"]
    url = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    return {"custom_id": f"request-{number}", "method": "POST", "url": url, "body": body}


class TraceWriter:
    """Lines of a trace as Mooncake's, with its block size, seconds and sessions stated.

    Blocks and sessions are numbered by first appearance: nothing tells what they held.

    Args:
        block_tokens: tokens that a hash stands for; of a trace's own where the log is one.
        encode: token ids of a request's prompt.
    """

    def __init__(self, block_tokens: int, encode: Encode) -> None:
        self._block_tokens = block_tokens
        self._encode = encode
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._names: dict[str, dict[int | str, int]] = {}
        self._start: float | None = None

    def line(self, entry: LogRequest, namespace: str) -> dict[str, Any]:
        """The line of a request; prompts in different namespaces share no block.

        Raises:
            EncodeError, ModelError: as `encode`.
        """
        if entry.blocks is None:
            packed = pack(self._encode(entry))
            length, block_tokens = len(packed) // TOKEN_BYTES, self._block_tokens
            hashes = list(self._chain(packed, namespace))
            output = answer_of(entry).tokens or 0
        else:
            length, block_tokens = entry.blocks.prompt_tokens, entry.blocks.block_tokens
            hashes = [self._trace_number(entry.blocks.scope, name) for name in entry.blocks.hash_ids]
            output = entry.blocks.output_tokens
        found: dict[str, Any] = {
            "input_length": length,
            "output_length": output,
            "hash_ids": hashes,
            "block_size": block_tokens,
        }
        if entry.session is not None:
            found["session_id"] = str(self._number("session", entry.session))
        if entry.timestamp is not None:
            if self._start is None:
                self._start = entry.timestamp
            found["timestamp"] = round(max(0.0, entry.timestamp - self._start), 6)
        return found

    def _chain(self, packed: bytes, namespace: str) -> Iterator[int]:
        """A number for each block and all before it; the last block may not be full."""
        before = -1 - self._number("namespace", namespace)
        size = self._block_tokens * TOKEN_BYTES
        for at in range(0, len(packed), size):
            key = (before, packed[at : at + size])
            before = self._numbers.setdefault(key, len(self._numbers))
            yield before

    def _number(self, scope: str, name: int | str) -> int:
        numbers = self._names.setdefault(scope, {})
        return numbers.setdefault(name, len(numbers))

    def _trace_number(self, scope: str, name: int | str) -> int:
        """A trace's own hash, by a number that no other scope has."""
        return self._number("hashes", f"{scope}\x1f{type(name).__name__}\x1f{name}")
