"""SamplingParams refuses what it cannot do, naming field and value."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from radixcache.engine.params import SamplingParams


def test_defaults_are_greedy_without_penalties_or_stops() -> None:
    params = SamplingParams()
    assert (params.temperature, params.max_tokens, params.n, params.seed) == (0.0, 128, 1, None)
    assert (params.top_k, params.top_p, params.min_p) == (0, 1.0, 0.0)
    assert (params.repetition_penalty, params.presence_penalty, params.frequency_penalty) == (1.0, 0.0, 0.0)
    assert (params.stop, params.stop_token_ids) == ((), ())


def test_a_single_stop_string_is_wrapped_and_lists_become_tuples() -> None:
    assert SamplingParams(stop="END").stop == ("END",)
    params = SamplingParams(stop=["a", "b"], stop_token_ids=[3, 4])
    assert params.stop == ("a", "b")
    assert params.stop_token_ids == (3, 4)
    assert hash(params) == hash(SamplingParams(stop=("a", "b"), stop_token_ids=(3, 4)))


def test_params_are_frozen_and_replaceable() -> None:
    params = SamplingParams(stop="x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.n = 2  # type: ignore[misc]
    assert dataclasses.replace(params, n=2) == SamplingParams(stop=("x",), n=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.5),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
        ("presence_penalty", float("nan")),
        ("frequency_penalty", None),
        ("seed", 1.0),
        ("n", 0),
        ("stop", ("",)),
        ("stop", (3,)),
        ("stop_token_ids", (-1,)),
        ("stop_token_ids", ("a",)),
        ("min_tokens", -1),
        ("logprobs", -1),
        ("logprobs", True),
        ("prompt_logprobs", 0.5),
        ("logit_bias", 5),
        ("logit_bias", "12"),
        ("logit_bias", None),
        ("allowed", 5),
    ],
)
def test_bad_values_are_refused_by_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field) as error:
        SamplingParams(**{field: value})
    shown = value[0] if isinstance(value, tuple) else value
    assert repr(shown) in str(error.value) or f"{shown:g}" in str(error.value)


def test_min_tokens_above_max_tokens_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"min_tokens \(9\) is above max_tokens \(8\)"):
        SamplingParams(max_tokens=8, min_tokens=9)
    assert SamplingParams(max_tokens=8, min_tokens=8).min_tokens == 8


def test_logit_bias_is_kept_as_pairs_by_id() -> None:
    params = SamplingParams(logit_bias={9: -100, 3: 0.5})
    assert params.logit_bias == ((3, 0.5), (9, -100.0))
    assert dataclasses.replace(params, n=2).logit_bias == params.logit_bias
    assert hash(params) == hash(SamplingParams(logit_bias=[(9, -100), (3, 0.5)]))
    assert SamplingParams(logit_bias={}) == SamplingParams()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({-1: 1.0}, "a token id of logit_bias must be at least 0, got -1"),
        ({"5": 1.0}, "a token id of logit_bias must be an integer, got '5'"),
        ({True: 1.0}, "a token id of logit_bias must be an integer, got True"),
        ({2**31: 1.0}, "a token id of logit_bias must be at most 2147483647, got 2147483648"),
        ({5: float("nan")}, r"logit_bias\[5\] must be a finite number, got nan"),
        ({5: float("-inf")}, r"logit_bias\[5\] must be a finite number, got -inf"),
        ({5: "high"}, r"logit_bias\[5\] must be a finite number, got 'high'"),
        ({5: 1e39}, r"logit_bias\[5\] must be at most 3.4e\+38 in size, got 1e\+39"),
        ([5, 6], "logit_bias must be pairs of a token id and a number, got 5"),
        ([(5, 1.0, 2.0)], "logit_bias must be pairs"),
        ([(5, 1.0), (5, 2.0)], "logit_bias must have each token id once, got 5 twice"),
    ],
)
def test_a_bad_bias_is_refused_by_its_token(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(logit_bias=value)
