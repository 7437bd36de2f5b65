"""Next tokens: distributions, masks, penalties, and independence of the batch."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from radixcache.engine.params import SamplingParams
from radixcache.engine.sampling import Sampler, prompt_logprobs, sample

VOCAB = 40


def logits(rows: int, seed: int = 0, vocab: int = VOCAB) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def sampler(
    prompt: tuple[int, ...] = (), eos: tuple[int, ...] = (), index: int = 0, **params: Any
) -> Sampler:
    return Sampler(SamplingParams(**params), prompt, frozenset(eos), index=index)


def draws(row: Tensor, count: int, **params: Any) -> Counter[int]:
    state = sampler(**{"temperature": 1.0, "seed": 11} | params)
    return Counter(sample(row[None], [state])[0].token_id for _ in range(count))


def fits(counts: Counter[int], expected: Tensor, count: int) -> bool:
    """Pearson's chi-square against probabilities, with six standard deviations to spare."""
    kept = expected > 0
    if any(not kept[token] for token in counts):
        return False
    wanted = expected[kept] * count
    seen = torch.tensor([counts[token] for token in kept.nonzero()[:, 0].tolist()], dtype=torch.float64)
    freedom = len(wanted) - 1
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    return statistic < freedom + 6 * math.sqrt(2 * freedom) + 6


def truncated(
    row: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Tensor:
    """Probabilities after temperature, top-k, top-p and min-p in this order, the plain way."""
    probabilities = (row.double() / temperature).softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    if top_k:
        for token in order[top_k:]:
            probabilities[token] = 0
        probabilities /= probabilities.sum()
    before = 0.0
    for token in order:
        mass = float(probabilities[token])
        if before >= top_p:
            probabilities[token] = 0
        before += mass
    probabilities[probabilities < min_p * probabilities.max()] = 0
    return probabilities / probabilities.sum()


def test_greedy_rows_take_the_likeliest_token() -> None:
    rows = logits(16)
    tokens = [token.token_id for token in sample(rows, [sampler() for _ in range(16)])]
    assert tokens == rows.argmax(-1).tolist()


def test_greedy_takes_the_first_of_equals() -> None:
    row = torch.zeros(1, VOCAB)
    row[0, [7, 3, 30]] = 5.0
    assert sample(row, [sampler()])[0].token_id == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_any_floating_dtype_are_accepted(dtype: torch.dtype) -> None:
    rows = logits(3).to(dtype)
    states = [sampler(), sampler(temperature=1.0, top_k=1), sampler(logprobs=1)]
    assert [token.token_id for token in sample(rows, states)] == rows.float().argmax(-1).tolist()


def test_rows_and_samplers_must_agree_in_number() -> None:
    with pytest.raises(ValueError, match="2 rows of logits for 1 samplers"):
        sample(logits(2), [sampler()])


TRUNCATIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.1},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.8, "min_p": 0.05},
]


@pytest.mark.parametrize("params", TRUNCATIONS)
def test_draws_follow_the_distribution(params: dict[str, Any]) -> None:
    row = logits(1, seed=5)[0]
    assert fits(draws(row, 4000, **params), truncated(row, **params), 4000)


def test_the_check_of_distributions_can_tell_them_apart() -> None:
    row = logits(1, seed=5)[0]
    assert not fits(draws(row, 4000, temperature=1.2), truncated(row), 4000)
    assert not fits(draws(row, 4000), truncated(row, top_k=5), 4000)


@given(
    seed=st.integers(0, 10_000),
    top_k=st.integers(0, VOCAB + 5),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 0.9),
    temperature=st.floats(0.2, 3.0),
)
@settings(max_examples=60, deadline=None)
def test_only_tokens_that_truncation_leaves_are_drawn(
    seed: int, top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    row = logits(1, seed=seed)[0]
    # A hair of tolerance at the borders: the reference sums in another order.
    loose = truncated(row, temperature, top_k, min(1.0, top_p + 1e-5), max(0.0, min_p - 1e-5))
    drawn = draws(row, 20, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert all(loose[token] > 0 for token in drawn)


def test_top_p_reaches_past_the_first_candidates_of_a_flat_distribution() -> None:
    row = torch.linspace(0, 0.01, 3000)
    drawn = draws(row, 2000, top_p=0.9)
    expected = truncated(row, top_p=0.9)
    assert len(drawn) > 1000
    assert all(expected[token] > 0 for token in drawn)


@pytest.mark.parametrize("params", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-30}])
def test_the_narrowest_truncation_is_greedy(params: dict[str, Any]) -> None:
    row = logits(1, seed=9)[0]
    assert set(draws(row, 50, **params)) == {int(row.argmax())}


def test_a_token_without_probability_is_never_drawn() -> None:
    row = torch.full((VOCAB,), -math.inf)
    row[[4, 9]] = 0.0
    assert set(draws(row, 200)) == {4, 9}


def test_draws_with_a_seed_do_not_depend_on_the_batch() -> None:
    steps = [logits(6, seed=step) for step in range(12)]
    params = {"temperature": 1.0, "top_p": 0.95, "seed": 3, "frequency_penalty": 0.3, "logprobs": 2}

    def run(place: int, batch: int) -> list[Any]:
        states = [sampler(temperature=1.3, seed=90 + i) for i in range(batch)]
        states[place] = sampler(**params)
        out = []
        for step in steps:
            rows = step[torch.tensor([5 if i == place else i % 5 for i in range(batch)])]
            out.append(sample(rows, states)[place])
        return out

    alone = run(0, 1)
    assert run(0, 4) == alone
    assert run(3, 6) == alone
    assert len({token.token_id for token in alone}) > 3


def test_draws_differ_by_seed_and_by_index() -> None:
    row = torch.zeros(VOCAB)

    def series(seed: int, index: int) -> list[int]:
        state = sampler(temperature=1.0, seed=seed, index=index)
        return [sample(row[None], [state])[0].token_id for _ in range(10)]

    assert series(1, 0) == series(1, 0)
    assert len({tuple(series(seed, index)) for seed in (1, 2) for index in (0, 1)}) == 4


def test_without_a_seed_draws_differ_between_requests() -> None:
    row = torch.zeros(1, 1000)
    states = [sampler(temperature=1.0) for _ in range(2)]
    series = [[sample(row, [state])[0].token_id for _ in range(10)] for state in states]
    assert series[0] != series[1]


def penalised(row: Tensor, prompt: list[int], output: list[int], params: SamplingParams) -> Tensor:
    """The definition, token by token."""
    row = row.clone()
    for token in range(len(row)):
        if token in prompt or token in output:
            score = float(row[token])
            factor = params.repetition_penalty
            row[token] = score / factor if score > 0 else score * factor
        times = output.count(token)
        row[token] -= params.frequency_penalty * times + params.presence_penalty * (times > 0)
    return row


@given(
    seed=st.integers(0, 1000),
    repetition=st.sampled_from([0.7, 1.0, 1.3, 2.0]),
    presence=st.sampled_from([0.0, 0.5, -0.5, 1.5]),
    frequency=st.sampled_from([0.0, 0.4, -0.2]),
    prompt=st.lists(st.integers(0, VOCAB - 1), max_size=30),
)
@settings(max_examples=30, deadline=None)
def test_penalties_equal_their_definition(
    seed: int, repetition: float, presence: float, frequency: float, prompt: list[int]
) -> None:
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency
    )
    state = Sampler(params, prompt, ())
    output: list[int] = []
    for step in range(15):
        row = logits(1, seed=seed + step)[0]
        token = sample(row[None], [state])[0].token_id
        wanted = penalised(row, prompt, output, params)
        assert wanted[token] == pytest.approx(float(wanted.max()), abs=1e-4)
        output.append(token)


def test_penalties_keep_counting_past_their_first_room() -> None:
    state = sampler(presence_penalty=1000.0)
    row = torch.zeros(1, 300)
    assert sorted(sample(row, [state])[0].token_id for _ in range(300)) == list(range(300))


def test_logits_are_left_as_they_are() -> None:
    rows = logits(4)
    before = rows.clone()
    states = [sampler(), sampler(temperature=1.0), sampler((1, 2), repetition_penalty=3.0)]
    sample(rows, [*states, sampler(eos=(3,), min_tokens=2)])
    assert torch.equal(rows, before)


def test_end_and_stop_tokens_are_banned_until_min_tokens() -> None:
    row = torch.zeros(1, VOCAB)
    row[0, 5], row[0, 6], row[0, 7] = 9.0, 8.0, 7.0
    state = sampler(eos=(5, 10_000), stop_token_ids=(6,), min_tokens=3)
    assert [sample(row, [state])[0].token_id for _ in range(5)] == [7, 7, 7, 5, 5]


def test_stop_ids_are_the_models_and_the_callers_unless_eos_is_ignored() -> None:
    assert sampler(eos=(1, 2), stop_token_ids=(9,)).stop_ids == {1, 2, 9}
    assert sampler(eos=(1, 2), stop_token_ids=(9,), ignore_eos=True).stop_ids == {9}


def test_logprobs_are_of_the_models_own_distribution() -> None:
    rows = logits(2, seed=4)
    reference = rows.double().log_softmax(-1)
    states = [
        sampler(logprobs=3, temperature=0.3, seed=1, frequency_penalty=2.0),
        sampler(logprobs=0, eos=(int(rows[1].argmax()),), min_tokens=1),
    ]
    first, second = sample(rows, states)
    assert first.logprob is not None
    assert second.logprob is not None
    assert first.logprob.token_id == first.token_id
    assert first.logprob.logprob == pytest.approx(float(reference[0, first.token_id]), abs=1e-5)
    likeliest = reference[0].argsort(descending=True)[:3].tolist()
    assert [token for token, _ in first.logprob.top] == likeliest
    assert [value for _, value in first.logprob.top] == pytest.approx(
        reference[0, likeliest].tolist(), abs=1e-5
    )
    assert second.token_id != int(rows[1].argmax())
    assert second.logprob.top == ()


def test_no_logprobs_unless_asked_for() -> None:
    assert [token.logprob for token in sample(logits(2), [sampler(), sampler(temperature=1.0)])] == [
        None,
        None,
    ]


def test_prompt_logprobs_score_each_next_token() -> None:
    rows = logits(5, seed=8)
    following = (3, 1, 4, 1, 5)
    reference = rows.double().log_softmax(-1)
    scored = prompt_logprobs(rows, following, 2)
    assert [score.token_id for score in scored] == list(following)
    expected = [float(reference[i, token]) for i, token in enumerate(following)]
    assert [score.logprob for score in scored] == pytest.approx(expected, abs=1e-5)
    assert [score.top[0][0] for score in scored] == rows.argmax(-1).tolist()
    assert prompt_logprobs(rows[:0], (), 2) == []


def test_top_logprobs_may_name_the_whole_vocabulary_in_order() -> None:
    (score,) = prompt_logprobs(logits(1), (0,), 10 * VOCAB)
    values = [value for _, value in score.top]
    assert len(values) == VOCAB
    assert values == sorted(values, reverse=True)
    assert float(np.exp(values).sum()) == pytest.approx(1.0, abs=1e-5)
