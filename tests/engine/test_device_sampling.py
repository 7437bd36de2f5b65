"""Sampling in torch: the tokens of the row-by-row path, bits that no company changes, no waiting."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from radixcache.engine import staging
from radixcache.engine.params import SamplingParams
from radixcache.engine.sampling import Sampler, batch, device, edits, host, prompt_logprobs, sample
from radixcache.engine.sampling import row as one
from radixcache.engine.sampling.choice import Choice
from radixcache.engine.sampling.masks import packed_mask
from radixcache.engine.sampling.truncation import most_likely, truncated
from radixcache.engine.sampling.weights import draw, unit, weights
from radixcache.errors import SamplingError
from tests.engine.test_cuda_syncs import Asked
from tests.engine.test_sampling import fits
from tests.engine.test_sampling import truncated as reference

LARGEST = float(np.finfo(np.float32).max)


def random_rows(kind: str, rows: int, vocab: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, vocab, generator=generator)
    if kind == "tied":
        return (values * 2).round()
    if kind == "impossible":
        values = torch.where(torch.rand(rows, vocab, generator=generator) < 0.5, -math.inf, values)
        values[:, seed % vocab] = 0.0
        return values
    if kind == "huge":
        return values.sign() * torch.where(values.abs() < 1, 0.0, LARGEST)
    return values * {"flat": 0.01, "peaked": 6.0, "plain": 2.0, "equal": 0.0}[kind]


KINDS = ["flat", "plain", "peaked", "equal", "tied", "impossible", "huge"]


def random_params(rng: random.Random, vocab: int) -> SamplingParams:
    bias = {rng.randrange(vocab): rng.choice([-100.0, 3.0, LARGEST]) for _ in range(rng.choice([0, 0, 3]))}
    mask = np.array([rng.random() < 0.7 for _ in range(vocab)])
    mask[rng.randrange(vocab)] = True
    return SamplingParams(
        temperature=rng.choice([0.0, 1e-4, 0.7, 1.0, 3.0, 1e30]),
        top_k=rng.choice([0, 0, 1, 2, 7, 60, 10**9]),
        top_p=rng.choice([1.0, 1.0, 0.95, 0.5, 1e-9]),
        min_p=rng.choice([0.0, 0.0, 0.05, 1.0]),
        repetition_penalty=rng.choice([1.0, 1.0, 1.3]),
        frequency_penalty=rng.choice([0.0, 0.5]),
        presence_penalty=rng.choice([0.0, -0.5]),
        logit_bias=bias,
        allowed=rng.choice([None, None, lambda index, output: mask]),
        logprobs=rng.choice([None, None, 0, 3, vocab]),
        min_tokens=rng.choice([0, 5]),
        stop_token_ids=(rng.randrange(vocab),),
        seed=rng.randrange(1000),
    )


def random_samplers(count: int, vocab: int, seed: int) -> list[Sampler]:
    rng = random.Random(seed)
    samplers = []
    for index in range(count):
        prompt = [rng.randrange(vocab) for _ in range(10)]
        sampler = Sampler(random_params(rng, vocab), prompt, (0,), index=index)
        for _ in range(rng.randrange(6)):
            sampler.note(rng.randrange(vocab))
        samplers.append(sampler)
    return samplers


def choices(where: Any, rows: Tensor, samplers: list[Sampler]) -> list[Choice]:
    numbered = dict(enumerate(samplers))
    changes = {index: sampler.edits(rows.shape[-1]) for index, sampler in numbered.items()}
    found = where.choose(rows, numbered, {index: own for index, own in changes.items() if own is not None})
    return [found[index] for index in numbered]


def plain(choice: Choice) -> Any:
    """A choice, with arrays as lists and -0 as 0; of an unusable row, what is wrong with it."""
    token, original, edited, scores = choice
    highest = (repr(original + 0.0), repr(edited + 0.0))
    if not math.isfinite(original) or not math.isfinite(edited):
        return highest
    return token, highest, None if scores is None else (scores.logit, *map(np.ndarray.tolist, scores[2:]))


@settings(deadline=None, max_examples=120)
@given(
    kind=st.sampled_from(KINDS), vocab=st.sampled_from([2, 5, 40, 255, 256, 700]), seed=st.integers(0, 9999)
)
def test_torch_and_numpy_choose_the_same(kind: str, vocab: int, seed: int) -> None:
    rows = random_rows(kind, 5, vocab, seed)
    samplers = random_samplers(5, vocab, seed)
    ours, others = choices(device, rows, samplers), choices(host, rows, samplers)
    assert list(map(plain, ours)) == list(map(plain, others))
    for choice, other in zip(ours, others, strict=True):
        if choice.scores is not None and other.scores is not None:
            assert choice.scores.total == pytest.approx(other.scores.total, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_and_numpy_choose_the_same_of_a_large_vocabulary(kind: str) -> None:
    rows = random_rows(kind, 4, 49_152, 3)
    for seed in range(4):
        samplers = random_samplers(4, 49_152, seed)
        assert list(map(plain, choices(device, rows, samplers))) == list(
            map(plain, choices(host, rows, samplers))
        )


@settings(deadline=None, max_examples=100)
@given(kind=st.sampled_from(KINDS), vocab=st.sampled_from([3, 40, 300]), seed=st.integers(0, 9999))
def test_edits_are_the_same_in_torch_and_numpy(kind: str, vocab: int, seed: int) -> None:
    rows = random_rows(kind, 6, vocab, seed)
    changes = [sampler.edits(vocab) for sampler in random_samplers(6, vocab, seed)]
    wanted = [(row, own) for row, own in enumerate(changes) if own is not None]
    together = rows[[row for row, _ in wanted]].clone()
    if wanted:
        edits.edit(together, [own for _, own in wanted])
    for place, (row, own) in enumerate(wanted):
        alone = rows[row].numpy().copy()
        one.edit(alone, own)
        assert alone.tobytes() == together[place].numpy().tobytes()


@pytest.mark.parametrize("where", [host, device])
@pytest.mark.parametrize("vocab", [37, 1000, 4096])
def test_no_company_changes_a_rows_choice(where: Any, vocab: int) -> None:
    kinds = ["plain", "tied", "peaked"]
    rows = torch.cat([random_rows(kinds[i % 3], 1, vocab, i) for i in range(64)])
    samplers = random_samplers(64, vocab, 5)

    def found(members: list[int]) -> list[Any]:
        got = choices(where, rows[members], [samplers[index] for index in members])
        return [(plain(choice), choice.scores and choice.scores.total) for choice in got]

    alone = [found([index])[0] for index in range(64)]
    rng = random.Random(0)
    for size in (2, 3, 7, 16, 33, 64):
        members = rng.sample(range(64), size)
        assert found(members) == [alone[index] for index in members]


def test_a_device_works_on_many_rows_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, samplers = random_rows("plain", 23, 90, 1), random_samplers(23, 90, 1)
    whole = list(map(plain, choices(device, rows, samplers)))
    scored = [plain(choice) for choice in device.score(rows, list(range(23)), 4)]
    monkeypatch.setattr(device, "_MOST_NUMBERS", 4 * 90)
    assert list(map(plain, choices(device, rows, samplers))) == whole
    assert [plain(choice) for choice in device.score(rows, list(range(23)), 4)] == scored


@pytest.mark.parametrize("vocab", [37, 255, 49_152])
def test_weights_of_a_row_have_the_same_bits_wherever_it_is(vocab: int) -> None:
    rows = random_rows("plain", 64, vocab, 2)
    temperature = torch.linspace(0.5, 2, 64)
    alone = [weights(rows[i : i + 1], rows[i : i + 1].amax(-1), temperature[i : i + 1])[0] for i in range(64)]
    for size in (2, 5, 17, 64):
        for first in (0, 1, 64 - size):
            some = slice(first, first + size)
            together = weights(rows[some], rows[some].amax(-1), temperature[some])
            assert all(torch.equal(mine, own) for mine, own in zip(together, alone[some], strict=True))


@pytest.mark.parametrize("vocab", [5, 1000, 128_256])
def test_sums_of_weights_are_exact_in_any_order(vocab: int) -> None:
    rows = torch.cat([random_rows(kind, 1, vocab, 0) for kind in ("equal", "flat", "plain")])
    found = weights(rows, rows.amax(-1))
    assert float(found.amax()) == unit(vocab)
    for own in found.numpy():
        exact = sum(map(int, own))
        assert exact < 2**53
        for order in (own, own[::-1], np.random.default_rng(0).permutation(own)):
            assert order.cumsum(dtype=np.float64)[-1] == exact
            assert float(torch.from_numpy(order.copy()).sum(dtype=torch.float64)) == exact


@pytest.mark.parametrize("settings_", [{}, {"top_k": 12, "top_p": 0.8, "temperature": 1.5}, {"min_p": 0.1}])
def test_draws_in_torch_follow_the_distribution(settings_: dict[str, Any]) -> None:
    row = random_rows("plain", 1, 40, 5)[0]
    params = SamplingParams(**({"temperature": 1.0, "seed": 11} | settings_))
    count = 4000
    tokens: list[int] = []
    for step in range(0, count, 500):
        samplers = [Sampler(params, (), (), index=step + i) for i in range(500)]
        tokens += [choice.token for choice in choices(device, row.expand(500, -1), samplers)]
    assert fits(Counter(tokens), reference(row, **settings_), count)


def test_every_token_is_drawn_by_its_share_of_random_numbers() -> None:
    share = torch.tensor([[0.0, 3.0, 0.0, 1.0, 4.0, 0.0]])
    numbers = torch.arange(0, 8, dtype=torch.float64) / 8
    assert [int(draw(share, number[None])) for number in numbers] == [1, 1, 1, 3, 4, 4, 4, 4]
    last = math.nextafter(1.0, 0.0)
    assert int(draw(share, torch.tensor([last], dtype=torch.float64))) == 4
    assert one.draw(share.numpy()[0], last) == 4


@pytest.mark.parametrize("vocab", [50, 3000])
@pytest.mark.parametrize("scale", [1.0, 3.0, 8.0])
def test_truncation_agrees_with_transformers(vocab: int, scale: float) -> None:
    logits = torch.randn(8, vocab, generator=torch.Generator().manual_seed(vocab)) * scale
    ids = torch.randint(0, vocab, (8, 20), generator=torch.Generator().manual_seed(1))
    penalised = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    own = logits.clone()
    samplers = [Sampler(SamplingParams(repetition_penalty=1.3), row.tolist(), ()) for row in ids]
    changes = [sampler.edits(vocab) for sampler in samplers]
    edits.edit(own, [change for change in changes if change is not None])
    torch.testing.assert_close(own, penalised)
    for temperature, top_k, top_p, min_p in (
        (0.7, 0, 0.9, 0.0),
        (1.0, 20, 1.0, 0.0),
        (1.3, 40, 0.7, 0.02),
        (2.0, 0, 1.0, 0.1),
    ):
        scores = TemperatureLogitsWarper(temperature)(ids, penalised.double())  # type: ignore[arg-type]
        if top_k:
            scores = TopKLogitsWarper(top_k)(ids, scores)
        if top_p < 1:
            scores = TopPLogitsWarper(top_p)(ids, scores)
        if min_p:
            scores = MinPLogitsWarper(min_p)(ids, scores)
        expected = scores.softmax(-1)
        given_k, given_p, given_min = (torch.full((8,), value).double() for value in (top_k, top_p, min_p))
        weighed = weights(own, own.amax(-1), torch.full((8,), temperature))
        left = truncated(own, weighed, top_k=given_k if top_k else None, top_p=given_p, min_p=given_min)
        torch.testing.assert_close(
            left.double() / left.sum(-1, keepdim=True, dtype=torch.float64), expected, atol=2e-6, rtol=1e-4
        )


def test_the_most_likely_tokens_are_ranked_by_logit_and_then_by_id() -> None:
    rows = torch.tensor([[0.0, -0.0, 5.0, 0.0, -1.0, 5.0], [-math.inf, 1.0, 1.0, 1.0, 1.0, -math.inf]])
    assert most_likely(rows, 4).tolist() == [[2, 5, 0, 1], [1, 2, 3, 4]]
    assert [one.most_likely(row, 4).tolist() for row in rows.numpy()] == [[2, 5, 0, 1], [1, 2, 3, 4]]


@pytest.mark.parametrize("where", [host, device])
def test_top_k_keeps_exactly_k_of_equals_the_lower_ids_first(where: Any) -> None:
    rows = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]).expand(200, -1)
    samplers = [
        Sampler(SamplingParams(temperature=1.0, top_k=2, seed=1), (), (), index=i) for i in range(200)
    ]
    assert {choice.token for choice in choices(where, rows, samplers)} == {1, 2}


@pytest.mark.parametrize("kind", ["nan", "infinite", "nothing"])
def test_an_unusable_row_in_torch_harms_nobody(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "host", device)
    value = {"nan": math.nan, "infinite": math.inf, "nothing": -math.inf}[kind]
    good = random_rows("plain", 30, 50, 4)
    rows = good.clone()
    rows[1::3] = value
    alone = [
        token
        for row, own in zip(good, random_samplers(30, 50, 2), strict=True)
        for token in sample(row[None], [own])
    ]
    together = sample(rows, random_samplers(30, 50, 2))
    for index, token in enumerate(together):
        if index % 3 == 1:
            assert isinstance(token, SamplingError)
        else:
            assert token == alone[index]
    with pytest.raises(SamplingError, match="no token can be sampled"):
        prompt_logprobs(rows, [1] * 30, 1)
    assert len(prompt_logprobs(good, [1] * 30, 1)) == 30


def test_choosing_asks_the_device_nothing_before_the_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers: list[tuple[int, ...]] = []
    to_host = staging.to_host

    def counted(tensor: Tensor) -> Tensor:
        transfers.append(tuple(tensor.shape))
        return to_host(tensor)

    monkeypatch.setattr(device, "to_host", counted)
    samplers = random_samplers(40, 90, 7)
    with Asked() as asked:
        choices(device, random_rows("plain", 40, 90, 7), samplers)
    assert asked.found == []
    assert len(transfers) == 1


def test_a_mask_is_the_same_in_bits_and_booleans() -> None:
    mask = np.random.default_rng(0).random(70) < 0.5
    words = packed_mask(mask, 70)
    assert [bool(words[token // 32] >> (token % 32) & 1) for token in range(70)] == mask.tolist()
    assert packed_mask(words, 70).tolist() == words.tolist()


@pytest.mark.gpu
def test_tokens_on_a_gpu_are_those_of_a_cpu_and_no_step_waits_before_the_transfer() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for kind in KINDS:
        rows, samplers = random_rows(kind, 32, 1000, 1), random_samplers(32, 1000, 1)
        found = [choice.token for choice in choices(device, rows.cuda(), samplers)]
        members = list(range(0, 32, 3))
        some = choices(device, rows[members].cuda(), [samplers[index] for index in members])
        assert [choice.token for choice in some] == [found[index] for index in members]
        expected = [choice.token for choice in choices(host, rows, samplers)]
        assert sum(map(int.__ne__, found, expected)) <= 1  # exp may round differently
