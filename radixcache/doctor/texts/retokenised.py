"""The same text in other tokens: an answer that was tokenised again."""

from __future__ import annotations

from collections.abc import Callable

from radixcache.doctor.diagnosis import Example, Side, Where
from radixcache.doctor.texts.compare import common_start
from radixcache.doctor.texts.verdict import Verdict
from radixcache.logs.record import LogRequest
from radixcache.tokens import TOKEN_BYTES

__all__ = ["judge_tokens"]

_WINDOW = 48 * TOKEN_BYTES
_SHOWN = 4 * TOKEN_BYTES
_CONTEXT = 120
_GOES_ON = 6


def judge_tokens(
    left: tuple[LogRequest, bytes],
    right: tuple[LogRequest, bytes],
    token: int,
    decode: Callable[[bytes], str],
) -> Verdict | None:
    """Judge two sequences of tokens that part in an answer: whether their text goes on the same.

    Args:
        left: the earlier request, with its prompt and answer packed.
        right: the one that missed, with its prompt.
        token: where they part, in or just before the answer of `left`.
        decode: the text of packed tokens.
    """
    at = token * TOKEN_BYTES
    texts = [decode(packed[at : at + _WINDOW]) for _, packed in (left, right)]
    firsts = [decode(packed[at : at + TOKEN_BYTES]) for _, packed in (left, right)]
    if not all(firsts) or common_start(texts[0], texts[1]) < max(map(len, firsts)) + _GOES_ON:
        return None
    before = decode(right[1][max(0, at - _WINDOW) : at])[-_CONTEXT:]
    sides = []
    for (entry, packed), text in zip((left, right), texts, strict=True):
        pieces = [
            decode(packed[start : start + TOKEN_BYTES])
            for start in range(at, min(at + _SHOWN, len(packed)), TOKEN_BYTES)
        ]
        after = text[len("".join(pieces)) :][:_CONTEXT]
        sides.append(Side(entry.source, entry.line, token, before, "|".join(pieces), after))
    where = Where("prompt") if right[0].messages is None else Where("message", None, "assistant")
    return Verdict("retokenised", "", where, Example(sides[0], sides[1]))
