"""Logits -> next tokens, for a batch in which every sequence has its own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from radixcache.engine.result import TokenLogprob
from radixcache.engine.sampling import device, host
from radixcache.engine.sampling.choice import Choice, check_highest, logprob, refusal
from radixcache.engine.sampling.state import Edits, Sampler
from radixcache.errors import SamplingError


class SampledToken(NamedTuple):
    """A token, and how likely it was if that was asked for."""

    token_id: int
    logprob: TokenLogprob | None


@torch.inference_mode()
def sample(rows: Tensor, samplers: Sequence[Sampler]) -> list[SampledToken | Exception]:
    """One token for each sequence, noted in its sampler.

    A token depends on its own row and sampler only, whatever else is in the batch. A row by which no token
    can be chosen has its error in the token's place, and harms no other. On a device everything is queued
    and then waited for once, by the transfer of the tokens.

    Args:
        rows: logits [sequences, vocab], any floating dtype, any device; left as they are.
        samplers: one for each row.

    Returns:
        For each row a token; or `SamplingError` if a logit is NaN or plus infinity or no token is left to
        choose from, `ValueError` if `logit_bias` or a mask does not fit the vocabulary, or what
        `SamplingParams.allowed` raised.

    Raises:
        ValueError: rows and samplers differ in number.
    """
    if len(rows) != len(samplers):
        raise ValueError(f"{len(rows)} rows of logits for {len(samplers)} samplers")
    errors: dict[int, Exception] = {}
    usable: dict[int, Sampler] = {}
    edits: dict[int, Edits] = {}
    for index, sampler in enumerate(samplers):
        if sampler.plain:
            usable[index] = sampler
            continue
        try:
            changes = sampler.edits(rows.shape[-1])
        except Exception as error:
            errors[index] = error
            continue
        usable[index] = sampler
        if changes is not None:
            edits[index] = changes
    where = host if rows.device.type == "cpu" else device
    chosen = where.choose(rows.detach(), usable, edits)
    found = [errors[index] if index in errors else _token(chosen[index]) for index in range(len(samplers))]
    # None is noted before all are known: what fails until here can be sampled again.
    for sampler, token in zip(samplers, found, strict=True):
        if type(token) is SampledToken:
            sampler.note(token.token_id)
    return found


@torch.inference_mode()
def prompt_logprobs(rows: Tensor, following: Sequence[int], top: int) -> list[TokenLogprob]:
    """How likely each token of `following` was by the row of logits before it.

    Args:
        rows: logits [tokens, vocab], any floating dtype, any device.
        following: the token after each row.
        top: how many of the most likely tokens to name for each row.

    Raises:
        SamplingError: a logit is NaN or plus infinity, or none is finite.
        ValueError: rows and tokens differ in number.
    """
    if len(rows) != len(following):
        raise ValueError(f"{len(rows)} rows of logits for {len(following)} tokens")
    if not len(rows):
        return []
    where = host if rows.device.type == "cpu" else device
    scored = []
    for choice in where.score(rows.detach(), following, min(top, rows.shape[-1])):
        check_highest(choice.original)
        found = logprob(choice)
        assert found is not None
        scored.append(found)
    return scored


def _token(choice: Choice) -> SampledToken | SamplingError:
    token, original, edited, scores = choice
    if not (isfinite(original) and isfinite(edited)):
        return refusal(edited if isfinite(original) else original)
    return SampledToken(token, None if scores is None else logprob(choice))
