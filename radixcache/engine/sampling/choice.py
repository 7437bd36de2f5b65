"""The outcome of sampling one row, and the check that a row can be sampled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radixcache.engine.result import TokenLogprob
from radixcache.errors import SamplingError


class Scores(NamedTuple):
    """What the log-probabilities of a row are computed from.

    Attributes:
        logit: the token's.
        total: sum of the weights, as a multiple of the most likely token's.
        ids, logits: of the most likely tokens, most likely first.
    """

    logit: float
    total: float
    ids: NDArray[np.int64]
    logits: NDArray[np.float64]


class Choice(NamedTuple):
    """A token, valid if the highest logits are finite.

    Attributes:
        token: its id.
        original: highest logit of the model's row; NaN if any logit is.
        edited: highest logit after penalties, biases and masks.
        scores: of the model's row, if asked for.
    """

    token: int
    original: float
    edited: float
    scores: Scores | None


def check_highest(logit: float) -> None:
    """Refuse a row by its highest logit, which is NaN if any of them is.

    Raises:
        SamplingError: the logit is not finite.
    """
    if not math.isfinite(logit):
        raise refusal(logit)


def refusal(logit: float) -> SamplingError:
    """Why no token can be sampled from a row whose highest logit, not a finite one, is `logit`."""
    reason = "no token is left to choose from" if logit == -math.inf else f"a logit is {logit}"
    return SamplingError(f"no token can be sampled: {reason}")


def logprob(choice: Choice) -> TokenLogprob | None:
    """The log-probability of the token by the model's row, if scores were asked for."""
    if choice.scores is None:
        return None
    token_logit, total, ids, logits = choice.scores
    normaliser = choice.original + math.log(total)
    top = zip(ids.tolist(), (logits - normaliser).tolist(), strict=True)
    return TokenLogprob(choice.token, token_logit - normaliser, tuple(top))
