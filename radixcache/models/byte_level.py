"""The byte-level tokenizer inside a GGUF file: vocabulary, merges, pre-tokenizer, special tokens, template.

Built with the tokenizers library alone: neither torch nor transformers is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from radixcache.errors import ModelError
from radixcache.models.pretokenizers import pre_tokenizer_kind
from radixcache.models.tokenizer_files import CONFIG_NAME, TEMPLATE_NAME

__all__ = ["TokenizerParts", "byte_level_parts", "length_option", "named_tokens"]

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type


@dataclass(frozen=True, slots=True)
class TokenizerParts:
    """A tokenizer, and what a chat needs beside it.

    Attributes:
        backend: turns text into token ids.
        special_tokens: tokens that have a role, by the names transformers gives the roles (`bos_token`, ...).
        chat_template: the Jinja source, or None.
        options: further settings of a transformers tokenizer (`model_max_length`).
    """

    backend: Tokenizer
    special_tokens: Mapping[str, str]
    chat_template: str | None
    options: Mapping[str, int]

    def save(self, folder: Path) -> None:
        """Write the files that transformers and `PlainTokenizer` load."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.special_tokens,
            **self.options,
        }
        self.backend.save(str(folder / "tokenizer.json"))
        (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2), encoding="utf-8")
        if self.chat_template is not None:
            (folder / TEMPLATE_NAME).write_text(self.chat_template, encoding="utf-8")


def byte_level_parts(metadata: Mapping[str, Any], where: str) -> TokenizerParts:
    """Builds the byte-level BPE tokenizer (`tokenizer.ggml.model` = gpt2) that `metadata` describes.

    Args:
        metadata: the key-values of a GGUF file, arrays as lists.
        where: the file, for messages.

    Raises:
        ModelError: vocabulary or merges are missing or do not fit together, or the pre-tokenizer is unknown.
    """
    kind = pre_tokenizer_kind(metadata.get("tokenizer.ggml.pre"), where)
    tokens: Sequence[str] = metadata.get("tokenizer.ggml.tokens") or ()
    merges: Sequence[str] = metadata.get("tokenizer.ggml.merges") or ()
    if not tokens or not merges:
        raise ModelError(f"{where}: holds no vocabulary and merges (tokenizer.ggml.tokens, .merges)")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ModelError(f"{where}: {len(tokens) - len(vocabulary)} tokens of its vocabulary are duplicates")
    pairs = [_pair(merge, where) for merge in merges]
    try:
        bpe = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=kind.ignore_merges)
    except Exception as error:  # the library raises bare Exception, e.g. for a merge outside the vocabulary
        raise ModelError(f"{where}: vocabulary and merges do not fit together: {error}") from error

    tokenizer = Tokenizer(bpe)
    normalizer = kind.normalizer()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = kind.build()
    tokenizer.decoder = decoders.ByteLevel()
    types: Sequence[int] = metadata.get("tokenizer.ggml.token_type") or ()
    tokenizer.add_special_tokens(_added(tokens, types, _CONTROL))
    tokenizer.add_tokens(_added(tokens, types, _USER_DEFINED))

    named = named_tokens(metadata, tokens)
    bos = named.get("bos_token")
    if bos is not None and bool(metadata.get("tokenizer.ggml.add_bos_token", kind.add_bos)):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary[bos])]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return TokenizerParts(tokenizer, named, metadata.get("tokenizer.chat_template"), length_option(metadata))


def _pair(merge: str, where: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise ModelError(f"{where}: {merge!r} in tokenizer.ggml.merges is not a pair of tokens")
    return left, right


def _added(tokens: Sequence[str], types: Sequence[int], wanted: int) -> list[AddedToken]:
    special = wanted == _CONTROL
    return [
        AddedToken(token, special=special, normalized=False)
        for token, kind in zip(tokens, types, strict=False)
        if kind == wanted
    ]


def named_tokens(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, str]:
    """The tokens that have a role, by the names transformers gives the roles."""
    roles = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    ids = {name: metadata.get(f"tokenizer.ggml.{role}_token_id") for role, name in roles.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None and index < len(tokens)}


def length_option(metadata: Mapping[str, Any]) -> dict[str, int]:
    """The model's context in tokens, as the option `model_max_length`; empty if the file does not say."""
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return {} if length is None else {"model_max_length": int(length)}
