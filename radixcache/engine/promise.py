"""What an engine promises of equal answers, and says at once when it cannot."""

from __future__ import annotations

import warnings
from typing import Literal

import torch

from radixcache.engine.runner import ModelRunner
from radixcache.errors import InvarianceError, InvarianceWarning
from radixcache.models import LoadedModel


def check_promise(runner: ModelRunner, model: LoadedModel, invariant: bool | Literal["auto"]) -> None:
    """Warn, once an engine, that answers may depend on the batch; unless that was asked for.

    Raises:
        InvarianceError: it was asked for that they do not.
    """
    if runner.batch_invariant or invariant is False:
        return
    if invariant is True:
        raise InvarianceError(
            f"invariant is True, which cannot be had for {model.name} on {model.device}: {runner.variance}"
        )
    if model.device.type != "cpu":
        remedy = "pass invariant=True to prevent it"
    elif model.dtype != torch.float32:
        remedy = "dtype='float32' may prevent it"
    else:
        remedy = "no setting is known to prevent it"
    warnings.warn(
        f"answers of {model.name} may depend, by rounding, on the batch and on what is cached: "
        f"{runner.variance}; {remedy}, and invariant=False says that this is fine",
        InvarianceWarning,
        stacklevel=4,
    )
