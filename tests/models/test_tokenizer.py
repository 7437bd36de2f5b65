"""A GGUF vocabulary becomes a tokenizer whose ids agree with a reference written from first principles."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.errors import ModelError
from radixcache.models.pretokenizers import KINDS
from radixcache.models.tokenizer import byte_level_tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = "<think>"
MERGES = [
    "Ġ t",
    "h e",
    "i n",
    "Ġt he",
    "1 2",
    "12 3",
    "Ġ 1",
    "e r",
    "Ġ Ġ",
    "Ã ©",
    "o n",
    "l l",
    "' s",
    "a b",
    "ab c",
]
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_letters() -> list[str]:
    """GPT-2's spelling of the 256 bytes: printable ones as themselves, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


LETTERS = byte_letters()
TOKENS = [*SPECIALS, *LETTERS, *(merge.replace(" ", "") for merge in MERGES), USER_DEFINED]


def metadata(pre: str | None = "smollm", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.context_length": 512,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": [3] * len(SPECIALS) + [1] * (len(TOKENS) - len(SPECIALS) - 1) + [4],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": CHATML,
    }
    if pre is not None:
        fields["tokenizer.ggml.pre"] = pre
    return fields | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def words(pre: str, text: str) -> list[str]:
    if pre == "smollm":
        pieces = regex.findall(r"\p{N}|\P{N}+", text)
        return [word for piece in pieces for word in regex.findall(GPT2_WORDS, piece)]
    pattern = {"gpt-2": GPT2_WORDS, "llama-bpe": LLAMA3_WORDS, "qwen2": QWEN2_WORDS}[pre]
    return regex.findall(pattern, unicodedata.normalize("NFC", text) if pre == "qwen2" else text)


def reference_ids(pre: str, text: str) -> list[int]:
    """Naive byte-pair encoding: again and again, merge the leftmost pair that stands first in MERGES."""
    ids = []
    for word in words(pre, text):
        symbols = [LETTERS[byte] for byte in word.encode()]
        for _ in range(len(symbols)):
            pairs = [f"{a} {b}" for a, b in pairwise(symbols)]
            ranked = [(MERGES.index(pair), i) for i, pair in enumerate(pairs) if pair in MERGES]
            if not ranked:
                break
            at = min(ranked)[1]
            symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
        ids += [TOKENS.index(symbol) for symbol in symbols]
    return ids


TOKENIZERS = {
    pre: byte_level_tokenizer(metadata(pre), "test") for pre in ("smollm", "gpt-2", "llama-bpe", "qwen2")
}
TEXT = st.text(alphabet=st.sampled_from("the in1239 '\n\t.,éщж日½e\u0301ABCabsl🙂"), max_size=40)


@pytest.mark.parametrize("pre", sorted(TOKENIZERS))
@given(text=TEXT)
@settings(max_examples=150, deadline=None)
def test_ids_equal_the_reference(pre: str, text: str) -> None:
    assert TOKENIZERS[pre].encode(text, add_special_tokens=False) == reference_ids(pre, text)


@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "llama-bpe"])
@given(text=st.binary(max_size=60).map(lambda data: data.decode("utf-8", "replace")))
@settings(max_examples=100, deadline=None)
def test_text_survives_the_round_trip(pre: str, text: str) -> None:
    tokenizer = TOKENIZERS[pre]
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_smollm_makes_every_digit_a_token_where_gpt2_would_merge_digits() -> None:
    ids = [TOKENS.index(digit) for digit in "123"]
    assert TOKENIZERS["smollm"].encode("123") == ids
    assert TOKENIZERS["gpt-2"].encode("123") == [TOKENS.index("123")]
    assert TOKENIZERS["smollm"].encode(" 1") == [TOKENS.index("Ġ"), TOKENS.index("1")]


def test_control_tokens_are_single_ids_and_are_left_out_of_text() -> None:
    tokenizer = TOKENIZERS["smollm"]
    ids = tokenizer.encode("<|im_start|>the<|im_end|>")
    assert ids[0] == 1
    assert ids[-1] == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert tokenizer.pad_token_id is None
    assert tokenizer.model_max_length == 512


def test_user_defined_tokens_are_single_ids_and_stay_in_text() -> None:
    tokenizer = TOKENIZERS["smollm"]
    ids = tokenizer.encode("in<think>in")
    assert ids.count(len(TOKENS) - 1) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "in<think>in"


def test_vocabulary_size_is_the_files() -> None:
    assert len(TOKENIZERS["smollm"]) == len(TOKENS)


def test_chat_template_renders_chatml() -> None:
    turn = [{"role": "user", "content": "hello"}]
    text = TOKENIZERS["smollm"].apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("pre", "stated", "begins"),
    [("llama-bpe", None, True), ("llama-bpe", False, False), ("smollm", None, False), ("smollm", True, True)],
)
def test_begin_token_is_added_as_the_file_or_else_the_family_says(
    pre: str, stated: bool | None, begins: bool
) -> None:
    fields = metadata(pre) if stated is None else metadata(pre, add_bos_token=stated)
    ids = byte_level_tokenizer(fields, "test").encode("the")
    assert (ids[0] == 1) is begins


def test_whole_tokens_win_over_merges_only_where_the_family_says() -> None:
    tokens = [*TOKENS, "zebra"]
    for pre, expected in (("llama-bpe", 1), ("smollm", 5)):
        tokenizer = byte_level_tokenizer(metadata(pre, tokens=tokens), "test")
        assert len(tokenizer.encode("zebra", add_special_tokens=False)) == expected


@pytest.mark.parametrize("pre", sorted(KINDS))
def test_every_listed_family_builds_and_keeps_text(pre: str) -> None:
    tokenizer = byte_level_tokenizer(metadata(pre), "test")
    text = "It's 12345 in the café;\r\n  日本 ок\tDon'T HTTPServer! "
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_unknown_pre_tokenizer_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"x\.gguf.*'martian'"):
        byte_level_tokenizer(metadata("martian"), "x.gguf")


def test_missing_pre_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.ggml\.pre"):
        byte_level_tokenizer(metadata(None), "x.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": []}, "no vocabulary"),
        ({"merges": None}, "no vocabulary"),
        ({"tokens": [*TOKENS, "a"]}, "duplicates"),
        ({"merges": ["ab"]}, "not a pair"),
        ({"merges": ["a zzz"]}, "do not fit together"),
    ],
)
def test_broken_vocabulary_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        byte_level_tokenizer(metadata(**changes), "x.gguf")
