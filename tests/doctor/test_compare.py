"""Where texts part and meet again, against plain loops; patterns match what they were made from."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache.doctor.texts.compare import compare
from radixcache.doctor.texts.segments import LINE_END, LINE_START, pattern_of, varying_segments
from radixcache.strings import common_end, common_start

short = st.text("ab ", max_size=40)
words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon"]), min_size=1, max_size=30)


def naive(a: str, b: str) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


@settings(deadline=None)
@given(short, short, short, st.integers(1, 40))
def test_common_ends(shared: str, a: str, b: str, times: int) -> None:
    left, right = shared * times + a, shared * times + b
    assert common_start(left, right) == naive(left, right)
    assert common_end(left[::-1], right[::-1]) == naive(left, right)


@settings(deadline=None)
@given(words, st.text("0123456789", min_size=1, max_size=8), st.text("0123456789", min_size=1, max_size=8))
def test_a_number_that_varies_is_the_only_span(before: list[str], one: str, other: str) -> None:
    after = " and this is what follows, the same in both."
    left, right = (f"{' '.join(before)} <{number}>{after}" for number in (one, other))
    at = common_start(left, right)
    if at == len(left):
        return
    found = compare(left, right, len(left), len(right), at)
    assert found.whole
    assert len(found.spans) == 1
    span = found.spans[0]
    assert left[: span.left_start] == right[: span.right_start]
    assert left[span.left_stop :] == right[span.right_stop :]
    assert found.same == len(left) - span.left_stop


@settings(deadline=None)
@given(words, words, st.integers(0, 30), st.integers(0, 30))
def test_spans_are_in_order_and_what_lies_between_is_equal(
    a: list[str], b: list[str], x: int, y: int
) -> None:
    left, right = " ".join([*a[:x], *b, *a[x:]]), " ".join([*a[:y], *b, *a[y:]])
    found = compare(left, right, len(left), len(right), common_start(left, right))
    at = common_start(left, right), common_start(left, right)
    for span in found.spans:
        assert (span.left_start, span.right_start) >= at
        assert left[at[0] : span.left_start] == right[at[1] : span.right_start]
        at = span.left_stop, span.right_stop
    if found.whole:
        assert left[at[0] :] == right[at[1] :]


@settings(deadline=None)
@given(st.lists(st.text("0123456789:- abcXYZ.ü\n", max_size=20), min_size=2, max_size=6, unique=True))
def test_a_pattern_matches_all_its_variants(middles: list[str]) -> None:
    variants = [f"{LINE_START}Time is {middle} sharp.{LINE_END}" for middle in middles]
    pattern = re.compile(pattern_of(variants) or "")
    for middle in middles:
        match = pattern.search(f"Time is {middle} sharp.")
        assert match is not None
        assert match[0].startswith("Time is")


def test_a_pattern_without_context_is_tied_to_its_line() -> None:
    pattern = pattern_of([f"{LINE_START}ab12{LINE_END}", f"{LINE_START}9f{LINE_END}"])
    assert pattern is not None
    assert re.search(pattern, "x\n77c\ny")
    assert not re.search(pattern, "some words on a line")


def test_the_sentence_stands_for_a_long_line() -> None:
    long = "This is the first sentence of a very long line that goes on and on for quite a while. "
    left, right = (f"{long}You serve {name} today. {long}" for name in ("Mia", "Noah"))
    spans = compare(left, right, len(left), len(right), common_start(left, right)).spans
    (segment,) = varying_segments(left, right, (0, len(left)), (0, len(right)), spans)
    assert segment == ["You serve Mia today.", "You serve Noah today."]
