"""Text from outside on a page: made visible, or replaced."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from radixcache.report.html.clean import Cleaner, inert, with_whole_characters
from radixcache.report.html.page import as_script_data
from tests.report import pages

DIGEST = re.compile(r"\[[\d,]+ characters, [0-9a-f]{10}\]")


def test_what_a_terminal_or_browser_acts_on_is_shown() -> None:
    assert inert("\x1b[31mred\u202e\u2028\ud800") == "\\x1b[31mred\\u202e\\u2028\\ud800"


def test_lines_and_tabs_stay() -> None:
    assert inert("one\n\ttwo\r\n") == "one\n\ttwo\\r\n"


@given(st.text())
def test_shown_text_prints_line_by_line(text: str) -> None:
    assert all(part.isprintable() for line in inert(text).split("\n") for part in line.split("\t"))


@given(st.text(st.characters(categories=["L", "N", "P"])))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert inert(text) == text


@given(st.text() | st.sampled_from(pages.HOSTILE))
def test_data_cannot_end_its_script_and_reads_back(text: str) -> None:
    value = {text: [text, {"key": text}]}
    data = as_script_data(value)
    assert data.isascii()
    assert not set("<>&") & set(data)
    assert json.loads(data) == value


@given(st.text(st.characters(codec=None, categories=None)))
def test_halves_of_characters_become_text_and_whole_ones_stay(text: str) -> None:
    written = json.dumps(text)
    whole = json.loads(written)  # two halves that stand beside each other are one character in JSON
    expected = "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in whole)
    assert json.loads(with_whole_characters(written)) == expected


def test_redacted_texts_keep_their_length_and_equality_only() -> None:
    cleaner = Cleaner(redact=True, salt=b"one")
    first, again, other = (cleaner.text(text) for text in ("secret", "secret", "terces"))
    assert first == again != other
    assert DIGEST.fullmatch(first)
    assert first.startswith("[6 characters, ")
    assert Cleaner(redact=True, salt=b"two").text("secret") != first
    assert Cleaner(redact=True).text("secret") != Cleaner(redact=True).text("secret")


def test_redaction_reaches_keys_and_depths_and_spares_the_vocabulary() -> None:
    cleaner = Cleaner(redact=True, vocabulary=["diverged"])
    found = cleaner.value({"key": [{"diverged": 3, "inner": ("text", 1.5, None, True)}]})
    ((key, (inside,)),) = found.items()
    assert DIGEST.fullmatch(key)
    assert inside["diverged"] == 3
    ((text, number, nothing, truth),) = (value for name, value in inside.items() if name != "diverged")
    assert DIGEST.fullmatch(text)
    assert (number, nothing, truth) == (1.5, None, True)


def test_versions_are_kept_if_they_are_versions() -> None:
    cleaner = Cleaner(redact=True, vocabulary=["torch", "python"])
    versions = cleaner.versions({"torch": "2.13.0+cpu", "python": "3.11.9", "house": "our secret"})
    assert versions["torch"] == "2.13.0+cpu"
    assert versions["python"] == "3.11.9"
    assert "secret" not in str(versions)
    assert "house" not in versions


def test_hostile_texts_are_all_changed_or_plain() -> None:
    assert [inert(text) == text for text in pages.HOSTILE] == [True, False, True]
