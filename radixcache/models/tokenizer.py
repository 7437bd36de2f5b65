"""Tokenizers of GGUF files as transformers' tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from radixcache.models.byte_level import TokenizerParts, byte_level_parts, length_option, named_tokens

__all__ = ["byte_level_tokenizer", "sentencepiece_tokenizer"]

_BLANK = "\u2581"  # SentencePiece's sign for a space


def byte_level_tokenizer(metadata: Mapping[str, Any], where: str) -> PreTrainedTokenizerFast:
    """The tokenizer that `byte_level_parts` builds; arguments and errors are the same."""
    return _wrap(byte_level_parts(metadata, where))


def sentencepiece_tokenizer(stock: Any, metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Corrects transformers' conversion `stock` of a SentencePiece BPE vocabulary (`tokenizer.ggml.model` =
    llama): these put the prefix space before a text even if it begins with a space, the conversion does not.
    """
    backend: Tokenizer = stock.backend_tokenizer
    blanks = normalizers.Replace(" ", _BLANK)
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_BLANK), blanks]) if prefix else blanks
    backend.pre_tokenizer = None
    named = named_tokens(metadata, metadata.get("tokenizer.ggml.tokens") or ())
    return _wrap(
        TokenizerParts(backend, named, metadata.get("tokenizer.chat_template"), length_option(metadata))
    )


def _wrap(parts: TokenizerParts) -> PreTrainedTokenizerFast:
    make: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = make(
        tokenizer_object=parts.backend,
        clean_up_tokenization_spaces=False,
        **parts.special_tokens,
        **parts.options,
    )
    wrapped.chat_template = parts.chat_template
    return wrapped
