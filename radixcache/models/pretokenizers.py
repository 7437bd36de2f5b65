"""How text is cut before byte-level BPE, by the name that a GGUF file gives (`tokenizer.ggml.pre`).

A GGUF file holds vocabulary and merges, but of the pre-tokenizer only a name; a tokenizer with the right
merges and the wrong cuts yields text that looks fine and token ids that are not what the model was trained
on. Each entry restates the pre-tokenizer of the original model's own tokenizer. Names that are not listed
are refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers

from radixcache.errors import ModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_HEAD = r"[^\r\n\p{L}\p{N}]?"

_LLAMA3 = rf"{_CONTRACTIONS}|{_HEAD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_HEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_TEKKEN = (
    rf"{_HEAD}{_UPPER}*{_LOWER}+|{_HEAD}{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_GPT4O = (
    rf"{_HEAD}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_HEAD}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_DEEPSEEK3_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_CJK_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits_then_gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _splits(*patterns: str) -> Callable[[], pre_tokenizers.PreTokenizer]:
    """Every pattern cuts the pieces that the one before it left; then bytes are spelt as characters."""

    def build() -> pre_tokenizers.PreTokenizer:
        steps: list[pre_tokenizers.PreTokenizer] = [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns
        ]
        return pre_tokenizers.Sequence(
            [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    return build


@dataclass(frozen=True, slots=True)
class PreTokenizerKind:
    """A family of byte-level BPE tokenizers.

    Attributes:
        build: makes the pre-tokenizer.
        nfc: the text is brought to Unicode form NFC first.
        ignore_merges: a piece that is a token of its own is taken whole, whatever the merges make of it.
        add_bos: encoding puts the begin token first where the file does not say (`add_bos_token`).
    """

    build: Callable[[], pre_tokenizers.PreTokenizer]
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.nfc else None


_PLAIN = PreTokenizerKind(_gpt2)
_PLAIN_NFC = PreTokenizerKind(_gpt2, nfc=True)
_DIGITS = PreTokenizerKind(_digits_then_gpt2)
_LLAMA = PreTokenizerKind(_splits(_LLAMA3), ignore_merges=True, add_bos=True)
_QWEN = PreTokenizerKind(_splits(_QWEN2), nfc=True)
_O200K = PreTokenizerKind(_splits(_GPT4O), ignore_merges=True)

KINDS: dict[str, PreTokenizerKind] = {
    "gpt-2": _PLAIN,
    "phi-2": _PLAIN,
    "mpt": _PLAIN_NFC,
    "olmo": _PLAIN_NFC,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": PreTokenizerKind(_digits_then_gpt2, nfc=True),
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "llama-bpe": _LLAMA,
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
    "tekken": PreTokenizerKind(_splits(_TEKKEN), ignore_merges=True, add_bos=True),
    "gpt-4o": _O200K,
    "llama4": _O200K,
    "deepseek-coder": PreTokenizerKind(_splits(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")),
    "deepseek-v3": PreTokenizerKind(_splits(r"\p{N}{1,3}", _CJK_KANA, _DEEPSEEK3_WORDS)),
}


def pre_tokenizer_kind(name: str | None, where: str) -> PreTokenizerKind:
    """The family called `name`; `where` (the file) is for the message.

    Raises:
        ModelError: the file names none, or one that is not known for sure.
    """
    if name is None:
        raise ModelError(f"{where}: names no pre-tokenizer (tokenizer.ggml.pre), token ids would be a guess")
    kind = KINDS.get(name)
    if kind is None:
        raise ModelError(
            f"{where}: pre-tokenizer {name!r} (tokenizer.ggml.pre) is not known; known are {', '.join(KINDS)}"
        )
    return kind
