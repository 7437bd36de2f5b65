"""`logit_bias` and `allowed`: what they do to a token's chances, and whom their errors harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from radixcache import RequestFailedError, SamplingParams
from radixcache.engine.sampling import SampledToken, batch, device, sample
from radixcache.errors import SamplingError
from tests import tiny_models
from tests.engine.conftest import MakeEngine
from tests.engine.test_sampling import VOCAB, draws, fits, logits, sampler, truncated

LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture(autouse=True, params=["in numpy", "in torch"])
def _where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in torch":
        monkeypatch.setattr(batch, "host", device)


def only(*tokens: int, size: int = VOCAB) -> Any:
    mask = np.zeros(size, np.bool_)
    mask[list(tokens)] = True
    return lambda index, output: mask


def test_a_bias_is_added_before_the_temperature() -> None:
    row = logits(1, seed=3)[0]
    biased = row.clone()
    biased[4] += 3.0
    biased[9] -= 2.0
    counts = draws(row, 1000, temperature=1.5, logit_bias={4: 3.0, 9: -2.0})
    assert fits(counts, truncated(biased, temperature=1.5), 1000)
    assert not fits(counts, truncated(row, temperature=1.5), 1000)


@pytest.mark.parametrize("size", [100.0, LARGEST])
def test_a_large_bias_forces_or_rules_out(size: float) -> None:
    row = logits(1, seed=3)
    likeliest = int(row.argmax())
    states = [sampler(logit_bias={7: size}), sampler(temperature=1.0, logit_bias={7: size}, seed=1)]
    assert [sample(row, [state])[0] for state in states] == [SampledToken(7, None)] * 2
    ruled_out = sampler(logit_bias={likeliest: -size})
    assert sample(row, [ruled_out])[0] == SampledToken(int(row[0].argsort()[-2]), None)


def test_a_bias_comes_after_the_penalties() -> None:
    row = torch.full((1, VOCAB), -50.0)
    row[0, 3], row[0, 4] = -1.0, -1.5
    assert sample(row, [sampler((3,), repetition_penalty=2.0, logit_bias={3: 1.0})])[0].token_id == 3
    row[0, 3] = -3.0  # twice that plus 4 is behind -1.5; with the bias first it would be ahead
    assert sample(row, [sampler((3,), repetition_penalty=2.0, logit_bias={3: 4.0})])[0].token_id == 4


def test_no_bias_makes_an_impossible_token_possible() -> None:
    row = torch.full((1, VOCAB), -math.inf)
    row[0, 5] = -3.0
    assert sample(row, [sampler(logit_bias={6: LARGEST})])[0].token_id == 5


def test_logprobs_are_of_the_row_without_bias_and_mask() -> None:
    row = logits(1, seed=6)
    token = sample(row, [sampler(logprobs=2, logit_bias={8: 100.0}, allowed=only(8, 9))])[0]
    assert token.token_id == 8
    assert token.logprob.logprob == pytest.approx(float(row[0].double().log_softmax(-1)[8]), abs=1e-5)
    assert token.logprob.top[0][0] == int(row.argmax())


def test_a_bias_outside_the_vocabulary_fails_its_row_alone() -> None:
    first, error, last = sample(logits(3), [sampler(), sampler(logit_bias={VOCAB: 1.0}), sampler()])
    assert isinstance(error, ValueError)
    assert str(error) == f"logit_bias has token {VOCAB}, the vocabulary has {VOCAB} tokens"
    assert isinstance(first, SampledToken)
    assert isinstance(last, SampledToken)


def as_words(mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    words = np.zeros(-(-len(mask) // 32), np.int32)
    for token in np.flatnonzero(mask):
        words[token // 32] |= np.array(1 << (token % 32), np.uint32).astype(np.int32)
    return words


MASKS: dict[str, Any] = {
    "booleans": lambda mask: mask,
    "a list": lambda mask: mask.tolist(),
    "a tensor": torch.from_numpy,
    "words": as_words,
    "a tensor of words, one row": lambda mask: torch.from_numpy(as_words(mask))[None],
}


@pytest.mark.parametrize("form", MASKS)
def test_only_allowed_tokens_are_drawn(form: str) -> None:
    row = logits(1, seed=2)[0]
    mask = np.random.default_rng(1).random(VOCAB) < 0.3
    mask[[0, 31, 32, 39]] = True
    kept = torch.where(torch.from_numpy(mask), row, -math.inf)
    counts = draws(row, 500, allowed=lambda index, output: MASKS[form](mask))
    assert fits(counts, truncated(kept), 500)


def test_a_shorter_mask_allows_nothing_past_its_end() -> None:
    row = torch.zeros(1, VOCAB)
    assert set(draws(row[0], 300, allowed=lambda index, output: np.ones(3, np.bool_))) == {0, 1, 2}
    words = np.full(1, -1, np.int32)
    assert max(draws(row[0], 300, allowed=lambda index, output: words)) == 31


def test_none_allows_every_token() -> None:
    row = logits(1)
    assert sample(row, [sampler(allowed=lambda index, output: None)])[0].token_id == int(row.argmax())


def test_a_mask_is_asked_for_by_completion_and_output() -> None:
    seen: list[tuple[int, list[int]]] = []

    def allowed(index: int, output: Sequence[int]) -> Any:
        seen.append((index, list(output)))
        return None

    states = [sampler(index=index, allowed=allowed) for index in (0, 2)]
    rows = torch.zeros(2, VOCAB)
    rows[0, 5] = rows[1, 6] = 1.0
    for _ in range(2):
        sample(rows, states)
    assert seen == [(0, []), (2, []), (0, [5]), (2, [6])]


def raising(index: int, output: Sequence[int]) -> Any:
    raise LookupError("no such rule")


def stopping(index: int, output: Sequence[int]) -> Any:
    raise StopIteration


BROKEN: dict[str, tuple[Any, type[Exception], str]] = {
    "raises": (raising, LookupError, "no such rule"),
    "stops": (stopping, StopIteration, ""),
    "allows nothing": (only(), SamplingError, "no token is left to choose from"),
    "too long": (
        only(size=VOCAB + 1),
        ValueError,
        "allowed must return at most 40 booleans or 2 int32 words",
    ),
    "too many words": (lambda i, o: np.zeros(3, np.int32), ValueError, "got int32 of shape (3,)"),
    "numbers": (lambda i, o: np.zeros(VOCAB), ValueError, "got float64 of shape (40,)"),
    "ids": (lambda i, o: [3, 4], ValueError, "got int64 of shape (2,)"),
    "two rows": (lambda i, o: np.zeros((2, 2), np.int32), ValueError, "got int32 of shape (2, 2)"),
    "a number": (lambda i, o: 5, ValueError, "of shape ()"),
    "an object": (lambda i, o: object(), ValueError, "got object of shape ()"),
    "takes nothing": (lambda: None, TypeError, "argument"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_mask_fails_its_row_alone(kind: str) -> None:
    allowed, error, message = BROKEN[kind]
    states = [sampler(temperature=1.0, seed=1), sampler(allowed=allowed), sampler(logprobs=1)]
    alone = [
        sample(logits(3)[row : row + 1], [own])[0]
        for row, own in ((0, sampler(temperature=1.0, seed=1)), (2, sampler(logprobs=1)))
    ]
    first, found, last = sample(logits(3), states)
    assert type(found) is error
    assert message in str(found)
    assert [first, last] == alone
    assert [state.num_tokens for state in states] == [1, 0, 1]


def test_an_engine_follows_a_grammar_for_every_completion(make_engine: MakeEngine) -> None:
    size = tiny_models.VOCABULARY
    lines = [[10, 20, 30, 40], [11, 21, 31, 41], [12, 22, 32, 42]]

    def allowed(index: int, output: Sequence[int]) -> Any:
        return only(lines[index][len(output)], size=size)(index, output)

    params = SamplingParams(
        max_tokens=4, n=3, temperature=1.0, seed=1, allowed=allowed, ignore_eos=True, logprobs=1
    )
    result = make_engine().submit(list(range(3, 40)), params).result(timeout=60)
    assert [list(completion.token_ids) for completion in result.completions] == lines


def test_a_broken_mask_fails_its_request_alone_and_leaks_no_block(make_engine: MakeEngine) -> None:
    engine = make_engine()
    neighbour = SamplingParams(max_tokens=20, ignore_eos=True, temperature=1.0, seed=3)
    expected = engine.generate([list(range(50, 90))], neighbour)[0].token_ids

    def late(index: int, output: Sequence[int]) -> Any:
        if len(output) == 3:
            raise LookupError("no such rule")

    handle = engine.submit(list(range(50, 90)), neighbour)
    bad = [
        engine.submit(list(range(3, 40)), SamplingParams(max_tokens=9, ignore_eos=True, **kind))
        for kind in ({"allowed": late}, {"allowed": late, "n": 3})
    ]
    for failing in bad:
        with pytest.raises(RequestFailedError, match="no such rule"):
            failing.result(timeout=60)
    assert handle.result(timeout=60).token_ids == expected
    engine.reset_cache()  # refused while a request holds blocks
    assert engine.stats().cache.free_blocks == engine.capacity_tokens // 16


def test_a_bias_for_a_token_outside_the_vocabulary_is_refused_when_submitted(make_engine: MakeEngine) -> None:
    engine = make_engine()
    vocabulary = engine._loop.vocab_size
    for token in (vocabulary, 10**6):
        params = SamplingParams(max_tokens=1, logit_bias={3: 1.0, token: 1.0})
        with pytest.raises(ValueError, match=f"logit_bias has token {token}, .*has {vocabulary} tokens"):
            engine.submit([5, 6, 7], params)
    params = SamplingParams(max_tokens=1, ignore_eos=True, logit_bias={vocabulary - 1: 1e6})
    assert engine.submit([5, 6, 7], params).result(timeout=60).token_ids == (vocabulary - 1,)
    assert engine.stats().waiting == 0
