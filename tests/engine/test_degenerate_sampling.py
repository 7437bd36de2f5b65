"""Whatever is asked for and whatever a model computes: a token of the vocabulary, or one clear error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radixcache import RadixCacheError, SamplingParams
from radixcache.engine.params import GREEDY_BELOW
from radixcache.engine.sampling import SampledToken, Sampler, prompt_logprobs, sample
from radixcache.errors import SamplingError
from tests import tiny_models
from tests.engine.conftest import MakeEngine

VOCAB = 24
LARGEST = float(np.finfo(np.float32).max)

sizes = st.one_of(
    st.floats(-3, 3),
    st.sampled_from([0.0, 1e-30, -1e-30, 1e30, -1e30, 1e38, -1e38, LARGEST, -LARGEST, 1e-45]),
)
logits = st.one_of(
    st.floats(-20, 20, width=32),
    st.sampled_from([0.0, -0.0, 1e-38, 1e38, -1e38, LARGEST, -LARGEST, -math.inf]),
)
accepted = st.fixed_dictionaries(
    {
        "temperature": st.one_of(
            st.floats(0, 3), st.sampled_from([1e-300, 1e-46, 1e-45, 1e-6, GREEDY_BELOW, 1e-4, 1e30, LARGEST])
        ),
        "top_k": st.sampled_from([0, 0, 1, 2, 5, VOCAB, 10**12]),
        "top_p": st.sampled_from([1.0, 0.9, 0.3, 1e-45, 5e-324]),
        "min_p": st.sampled_from([0.0, 0.1, 1.0, 1e-45, 5e-324]),
        "repetition_penalty": st.sampled_from([1.0, 1.2, 0.8, 1.2e-38, 1e-20, 1e20, LARGEST]),
        "presence_penalty": sizes,
        "frequency_penalty": sizes,
        "logprobs": st.sampled_from([None, 0, 3, 10**9]),
    }
)


def reference(
    row: list[float], params: SamplingParams, output: list[int], banned: set[int]
) -> np.ndarray[Any, Any]:
    """Penalised logits in float64, the plain way; finite ones stay within float32."""
    values = np.array(row, np.float64)
    for token in range(len(row)):
        if values[token] == -math.inf:
            continue
        count = output.count(token)
        if count:
            factor = params.repetition_penalty
            values[token] = values[token] / factor if values[token] > 0 else values[token] * factor
            values[token] = min(max(values[token], -LARGEST), LARGEST)
            taken = params.frequency_penalty * count + params.presence_penalty
            values[token] -= min(max(taken, -LARGEST), LARGEST)
            values[token] = min(max(values[token], -LARGEST), LARGEST)
    values[list(banned)] = -math.inf
    return values


@settings(deadline=None, max_examples=400)
@given(
    row=st.lists(logits, min_size=VOCAB, max_size=VOCAB),
    settings=accepted,
    output=st.lists(st.integers(0, VOCAB - 1), max_size=6),
    banned=st.sets(st.integers(0, VOCAB + 2), max_size=VOCAB),
    seed=st.integers(0, 100),
)
def test_a_token_is_one_of_the_vocabulary_that_the_parameters_allow(
    row: list[float], settings: dict[str, Any], output: list[int], banned: set[int], seed: int
) -> None:
    params = SamplingParams(
        **settings, seed=seed, max_tokens=20, min_tokens=20, stop_token_ids=tuple(banned), ignore_eos=True
    )
    sampler = Sampler(params, (), ())
    for token in output:
        sampler.note(token)
    rows = torch.tensor([row, [1.0, 2.0] * (VOCAB // 2)])
    found, other = sample(rows, [sampler, Sampler(SamplingParams(), (), ())])
    assert isinstance(other, SampledToken)
    assert other.token_id == 1
    inside = {token for token in banned if token < VOCAB}
    values = reference(row, params, output, inside)
    if max(values) == -math.inf:
        assert isinstance(found, SamplingError)
        assert sampler.num_tokens == len(output)
        return
    assert isinstance(found, SampledToken)
    token = found.token_id
    assert 0 <= token < VOCAB
    assert token not in banned
    assert row[token] != -math.inf
    behind = float(values.max() - values[token])
    close = 1e-5 * max(1.0, abs(float(values.max())))
    if params.temperature < GREEDY_BELOW or params.top_k == 1:
        assert behind <= close
    elif params.min_p == 1:  # as likely as the likeliest, as far as float32 tells
        assert behind <= close + 1e-6 * params.temperature
    else:
        assert behind / params.temperature < 110 + close  # float32 has no smaller probability
    if params.logprobs is not None:
        assert found.logprob is not None
        assert found.logprob.token_id == token
        assert found.logprob.logprob <= 1e-6
        assert len(found.logprob.top) == min(params.logprobs, VOCAB)
    else:
        assert found.logprob is None


UNUSABLE = {
    "nan": [1.0, math.nan, 2.0],
    "nan first": [math.nan, 1.0, 2.0],
    "infinite": [1.0, math.inf, 2.0],
    "nothing": [-math.inf] * 3,
    "all nan": [math.nan] * 3,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1.0},
        {"temperature": 1.0, "top_k": 2},
        {"temperature": 1.0, "top_p": 0.5},
        {"logprobs": 2},
        {"repetition_penalty": 1.5},
        {"temperature": 1e-30},
    ],
)
def test_an_unusable_row_has_an_error_in_its_place(
    settings: dict[str, Any], kind: str, dtype: torch.dtype
) -> None:
    rows = torch.tensor([[0.0, 1.0, 2.0], UNUSABLE[kind], [5.0, 1.0, 2.0]], dtype=dtype)
    samplers = [Sampler(SamplingParams(**settings, seed=1), (0, 1), ()) for _ in range(3)]
    first, error, last = sample(rows, samplers)
    assert isinstance(error, SamplingError)
    assert "no token can be sampled" in str(error)
    for token in (first, last):
        assert isinstance(token, SampledToken)
        assert 0 <= token.token_id < 3
    assert [sampler.num_tokens for sampler in samplers] == [1, 0, 1]
    with pytest.raises(SamplingError):
        prompt_logprobs(rows, [1, 1, 1], 1)


@pytest.mark.parametrize("temperature", [1e-300, 1e-46, 1e-45, 1e-38, 1e-12, 9e-6])
def test_a_temperature_too_low_to_matter_is_greedy(temperature: float) -> None:
    row = torch.tensor([[1.0, 1.0 + 1e-6, 0.5]])
    sampler = Sampler(SamplingParams(temperature=temperature, seed=1), (), ())
    assert sampler.greedy
    assert {sample(row, [sampler])[0] for _ in range(20)} == {SampledToken(1, None)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 1e39),
        ("temperature", 1e308),
        ("temperature", 10**400),
        ("repetition_penalty", 1e-300),
        ("repetition_penalty", 1e-39),
        ("repetition_penalty", 1e39),
        ("presence_penalty", 1e308),
        ("presence_penalty", -1e39),
        ("frequency_penalty", 1e308),
        ("frequency_penalty", -1e308),
        ("n", 10**9),
        ("ignore_eos", "no"),
        ("ignore_eos", None),
        ("stop", None),
        ("stop", 5),
        ("stop", b"x"),
        ("stop_token_ids", None),
        ("stop_token_ids", 5),
        ("stop_token_ids", "12"),
        ("max_tokens", None),
        ("temperature", None),
        ("temperature", True),
    ],
)
def test_what_float32_cannot_hold_and_what_is_of_the_wrong_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*got "):
        SamplingParams(**{field: value})


def test_numbers_of_numpy_are_numbers() -> None:
    params = SamplingParams(
        max_tokens=np.int64(5),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        stop_token_ids=np.array([3, 4]),  # type: ignore[arg-type]
    )
    assert params == SamplingParams(max_tokens=5, temperature=0.5, stop_token_ids=(3, 4))
    assert type(params.max_tokens) is int
    assert type(params.temperature) is float


EXTREMES: list[dict[str, Any]] = [
    {"temperature": 1e-300},
    {"temperature": 1e-46, "top_k": 5},
    {"temperature": 1e-45, "top_p": 0.5},
    {"temperature": 3e38},
    {"temperature": 3e38, "top_k": 3},
    {"frequency_penalty": 3e38, "temperature": 1.0},
    {"frequency_penalty": -1e38, "temperature": 1.0},
    {"presence_penalty": 3e38, "repetition_penalty": 1.1},
    {"repetition_penalty": 1.2e-38, "temperature": 1.0},
    {"repetition_penalty": 1.2e-38},
]
BANS: list[dict[str, Any]] = [
    {"min_tokens": 4, "stop_token_ids": tuple(range(tiny_models.VOCABULARY))} | more
    for more in ({}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 4}, {"logprobs": 1, "n": 3})
]


def test_extreme_requests_harm_nobody_beside_them(make_engine: MakeEngine) -> None:
    engine = make_engine()
    neighbour = SamplingParams(max_tokens=60, ignore_eos=True)
    expected = engine.generate([list(range(50, 90))], neighbour)[0].token_ids
    others = [engine.submit(list(range(50, 90)), neighbour) for _ in range(3)]
    fine = [
        engine.submit(list(range(3, 40)), SamplingParams(max_tokens=8, ignore_eos=True, seed=1, **kind))
        for kind in EXTREMES
    ]
    hopeless = [
        engine.submit(list(range(3, 40)), SamplingParams(max_tokens=8, ignore_eos=True, seed=1, **kind))
        for kind in BANS
    ]
    for handle in fine:
        ids = handle.result(60).token_ids
        assert len(ids) == 8
        assert all(0 <= token < tiny_models.VOCABULARY for token in ids)
    for handle in hopeless:
        with pytest.raises(RadixCacheError, match="no token can be sampled"):
            handle.result(60)
    for handle in others:
        assert handle.result(60).token_ids == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_request_whose_logits_are_unusable_fails_alone(
    value: float, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    neighbour = SamplingParams(max_tokens=40, ignore_eos=True)
    expected = engine.generate([list(range(40, 125))], neighbour)[0].token_ids
    engine.reset_cache()
    runner = engine._loop.executor.runner
    forward = runner.forward

    def broken(sequences: Any) -> torch.Tensor:
        rows = forward(sequences).clone()
        at = 0
        for part in sequences:
            if 37 <= part.start + len(part.tokens) < 50:
                rows[at : at + part.keep] = value
            at += part.keep
        return rows

    monkeypatch.setattr(runner, "forward", broken)
    other = engine.submit(list(range(40, 125)), neighbour)
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "n": 3},
        {"temperature": 1.0, "top_k": 4},
        {"logprobs": 2},
        {"prompt_logprobs": 1},
    ]
    for kind in kinds:
        with pytest.raises(RadixCacheError, match="no token can be sampled"):
            engine.submit(list(range(3, 40)), SamplingParams(max_tokens=6, **kind)).result(60)
    assert other.result(60).token_ids == expected


@pytest.mark.parametrize("params", [5, "greedy", {"max_tokens": 3}, [SamplingParams()]])
def test_what_are_no_parameters_is_refused(params: Any, make_engine: MakeEngine) -> None:
    with pytest.raises(ValueError, match="params must be SamplingParams"):
        make_engine().submit([5, 6], params)


@pytest.mark.parametrize("namespace", [None, 5, ["x"], ("a",), {}])
def test_what_is_no_namespace_is_refused_and_harms_nobody(namespace: Any, make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1)
    good = [engine.submit([5, 6, token], SamplingParams(max_tokens=5)) for token in range(3, 6)]
    with pytest.raises(ValueError, match="namespace must be a str or bytes"):
        engine.submit([5, 6], namespace=namespace)
    for handle in good:
        handle.result(30)
