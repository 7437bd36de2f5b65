"""Streamed text: whole characters only, equal to decoding at once, cut before stop strings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from radixcache.engine.detokenize import TextStream

BLANK = "\u2581"


def byte_letters() -> list[str]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def wrap(backend: Tokenizer) -> Any:
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=backend, eos_token="<end>", clean_up_tokenization_spaces=False)


def byte_level() -> Any:
    """Ids 0-255 are bytes; 256 ends a sequence, 257 is special without a role, 258 is an added word."""
    backend = Tokenizer(
        models.BPE(vocab={letter: byte for byte, letter in enumerate(byte_letters())}, merges=[])
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<end>", special=True), AddedToken("<repo>", special=True)])
    backend.add_tokens([AddedToken("<naïve word>", normalized=False)])
    return wrap(backend)


def sentencepiece() -> Any:
    """Words with a blank before them, and byte tokens for all else, as Llama 2 has them."""
    words = [f"{BLANK}the", f"{BLANK}cat", "s", f"{BLANK}", "a", "日"]
    pieces = ["<unk>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    bpe = models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True, unk_token="<unk>"
    )
    backend = Tokenizer(bpe)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(BLANK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    backend.add_special_tokens([AddedToken("<end>", special=True)])
    return wrap(backend)


BYTES, PIECES = byte_level(), sentencepiece()
THE, CAT, S = (PIECES.convert_tokens_to_ids(piece) for piece in (f"{BLANK}the", f"{BLANK}cat", "s"))


def utf8_ids(text: str) -> list[int]:
    return list(text.encode())


def pieces(stream: TextStream, ids: list[int]) -> list[str]:
    return [stream.push(token) for token in ids]


@given(text=st.text(alphabet=st.sampled_from("ab é日🙂\u200d\n"), max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_piece_holds_part_of_a_character_and_together_they_are_the_text(text: str) -> None:
    stream = TextStream(BYTES, ())
    out = pieces(stream, utf8_ids(text))
    assert not any("\ufffd" in piece for piece in out)
    assert "".join(out) == text
    assert stream.finish() == ""
    assert stream.text == text


@given(ids=st.lists(st.integers(0, 258), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_ids_come_to_what_decoding_them_at_once_gives(ids: list[int]) -> None:
    stream = TextStream(BYTES, (5, 6))
    streamed = "".join([*pieces(stream, ids), stream.finish()])
    assert streamed == BYTES.decode(ids, skip_special_tokens=True)
    assert stream.text == streamed


def test_a_character_comes_with_its_last_byte() -> None:
    assert pieces(TextStream(BYTES, ()), utf8_ids("é🙂")) == ["", "é", "", "", "", "🙂"]


def test_an_unfinished_character_is_a_replacement_at_the_end_only() -> None:
    stream = TextStream(BYTES, ())
    assert pieces(stream, [65, 0xE6, 0x97]) == ["A", "", ""]
    assert stream.text == "A\ufffd"
    assert stream.finish() == "\ufffd"
    assert stream.text == "A\ufffd"


def test_special_tokens_have_no_text_and_added_words_have() -> None:
    stream = TextStream(BYTES, ())
    assert pieces(stream, [65, 256, 257, 258, 66]) == ["A", "", "", "<naïve word>", "B"]


def test_an_id_past_the_vocabulary_has_no_text() -> None:
    assert pieces(TextStream(BYTES, ()), [65, 9999, 66]) == ["A", "", "B"]


def test_the_space_between_prompt_and_output_is_kept() -> None:
    stream = TextStream(PIECES, (THE,))
    assert pieces(stream, [CAT, S, THE]) == [" cat", "s", " the"]
    assert stream.text == " cats the"


def test_without_a_prompt_the_first_space_is_dropped_as_in_decoding() -> None:
    stream = TextStream(PIECES, ())
    assert "".join(pieces(stream, [CAT, S, THE])) == PIECES.decode([CAT, S, THE]) == "cats the"


@given(text=st.text(alphabet=st.sampled_from("as 日é🙂"), max_size=20))
@settings(max_examples=60, deadline=None)
def test_byte_fallback_tokens_come_as_whole_characters(text: str) -> None:
    ids = [PIECES.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in text.encode()]
    stream = TextStream(PIECES, (THE,))
    out = pieces(stream, ids)
    assert not any("\ufffd" in piece for piece in out)
    assert "".join([*out, stream.finish()]) == text
    assert stream.text == text


def test_bytes_that_never_become_a_character_are_given_out_in_the_end() -> None:
    stray = PIECES.convert_tokens_to_ids("<0xFF>")
    stream = TextStream(PIECES, (THE,))
    out = pieces(stream, [stray] * 40)
    assert sum(map(len, out)) >= 16
    assert "".join([*out, stream.finish()]) == "\ufffd" * 40


def test_a_stop_string_ends_the_text_before_it() -> None:
    stream = TextStream(BYTES, (), stop=("STOP",))
    out = pieces(stream, utf8_ids("go STOP on"))
    assert "".join(out) == "go "
    assert stream.stopped
    assert (stream.text, stream.finish(), stream.push(65)) == ("go ", "", "")


def test_what_may_begin_a_stop_string_is_withheld_until_it_is_none() -> None:
    stream = TextStream(BYTES, (), stop=("STOP",))
    assert pieces(stream, utf8_ids("aSTa")) == ["a", "", "", "STa"]
    assert pieces(stream, utf8_ids("ST")) == ["", ""]
    assert stream.text == "aSTaST"
    assert stream.finish() == "ST"
    assert stream.text == "aSTaST"
    assert not stream.stopped


def test_a_stop_string_may_overlap_its_own_beginning() -> None:
    stream = TextStream(BYTES, (), stop=("aab",))
    assert "".join(pieces(stream, utf8_ids("aaaab"))) == "aa"
    assert stream.stopped


def test_of_stop_strings_that_end_together_the_longest_counts() -> None:
    stream = TextStream(BYTES, (), stop=("c", "bc", "xabc"))
    assert "".join(pieces(stream, utf8_ids("abc"))) == "a"


def test_a_stop_string_inside_one_token_is_found() -> None:
    stream = TextStream(BYTES, (), stop=("ve w",))
    assert pieces(stream, [65, 258]) == ["A", "<naï"]
    assert stream.stopped


def first_stop(text: str, stops: list[str]) -> str | None:
    """The text before the stop string that ends first, the longest of those that end there."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return None


@given(
    text=st.text(alphabet="abé", max_size=30),
    stops=st.lists(st.text(alphabet="abé", min_size=1, max_size=5), min_size=1, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_stops_equal_a_search_of_the_whole_text(text: str, stops: list[str]) -> None:
    stream = TextStream(BYTES, (), stop=stops)
    given_out = ["", *pieces(stream, utf8_ids(text))]
    wanted = first_stop(text, stops)
    assert stream.stopped is (wanted is not None)
    assert stream.text == (text if wanted is None else wanted)
    assert "".join([*given_out, stream.finish()]) == stream.text
    grown = ["".join(given_out[:end]) for end in range(1, len(given_out) + 1)]
    assert all(later.startswith(earlier) for earlier, later in pairwise(grown))


@pytest.mark.parametrize("tokenizer", [BYTES, PIECES], ids=["bytes", "pieces"])
def test_a_long_text_costs_each_token_the_same(tokenizer: Any) -> None:
    """Counts the tokens that are decoded for each one pushed, rather than time."""
    decoded = 0
    real = type(tokenizer).decode

    class Counting:
        backend_tokenizer = tokenizer.backend_tokenizer
        added_tokens_decoder = tokenizer.added_tokens_decoder

        def convert_ids_to_tokens(self, token: int) -> str:
            return str(tokenizer.convert_ids_to_tokens(token))

        def decode(self, ids: list[int], **options: Any) -> str:
            nonlocal decoded
            decoded += len(ids)
            return str(real(tokenizer, ids, **options))

    stream = TextStream(Counting(), ())
    for token in [100, 101, 102] * 400:
        stream.push(token)
    assert decoded <= 6 * 1200
