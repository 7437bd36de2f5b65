"""The tokenizer inside a GGUF file: vocabulary, merges, pre-tokenizer, special tokens, chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from radixcache.errors import ModelError
from radixcache.models.pretokenizers import pre_tokenizer_kind

_BLANK = "\u2581"  # SentencePiece's sign for a space
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type


def byte_level_tokenizer(metadata: Mapping[str, Any], where: str) -> PreTrainedTokenizerFast:
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

    named = _named_tokens(metadata, tokens)
    bos = named.get("bos_token")
    if bos is not None and bool(metadata.get("tokenizer.ggml.add_bos_token", kind.add_bos)):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary[bos])]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return _wrap(tokenizer, named, metadata)


def sentencepiece_tokenizer(stock: Any, metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Corrects transformers' conversion `stock` of a SentencePiece BPE vocabulary (`tokenizer.ggml.model` =
    llama): these put the prefix space before a text even if it begins with a space, the conversion does not.
    """
    backend: Tokenizer = stock.backend_tokenizer
    blanks = normalizers.Replace(" ", _BLANK)
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_BLANK), blanks]) if prefix else blanks
    backend.pre_tokenizer = None
    named = _named_tokens(metadata, metadata.get("tokenizer.ggml.tokens") or ())
    return _wrap(backend, named, metadata)


def _wrap(
    backend: Tokenizer, named: Mapping[str, str], metadata: Mapping[str, Any]
) -> PreTrainedTokenizerFast:
    make: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = make(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **named, **_length(metadata)
    )
    wrapped.chat_template = metadata.get("tokenizer.chat_template")
    return wrapped


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


def _named_tokens(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, str]:
    """The tokens that have a role, by the names transformers gives the roles."""
    roles = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    ids = {name: metadata.get(f"tokenizer.ggml.{role}_token_id") for role, name in roles.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None and index < len(tokens)}


def _length(metadata: Mapping[str, Any]) -> dict[str, int]:
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return {} if length is None else {"model_max_length": int(length)}
