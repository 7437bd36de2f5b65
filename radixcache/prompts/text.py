"""Text prompts as token ids."""

from __future__ import annotations

from typing import Any

__all__ = ["check_text", "encode_text"]


def check_text(name: str, text: Any) -> str:
    """A text as it is.

    Raises:
        ValueError: it is not a str, or holds half of a surrogate pair, which no tokenizer can encode.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a str, got {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = error.start
        raise ValueError(
            f"{name} cannot be encoded: character {place} is the lone surrogate {text[place]!r}"
        ) from None
    return text


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text prompt, as a completions server makes them.

    The special tokens that the tokenizer adds (a first token, for many models) are added, and special tokens
    written in the text are taken for special tokens, unlike those in the messages of a chat. A text that
    begins with the first token already does not get it twice.

    Args:
        tokenizer: a transformers tokenizer, or one with its `encode`.
        text: the prompt.

    Raises:
        ValueError: as `check_text`.
    """
    # Not verbose: transformers would warn of long prompts, and the engine refuses those itself.
    ids: list[int] = list(tokenizer.encode(check_text("prompt", text), verbose=False))
    if len(ids) > 1 and ids[0] == ids[1] and list(tokenizer.encode("", verbose=False))[:1] == ids[:1]:
        del ids[0]
    return ids
