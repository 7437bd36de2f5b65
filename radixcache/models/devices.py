"""Devices as they are named throughout the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def with_index(device: torch.device) -> torch.device:
    """The device with its index: `cuda` is `cuda:0`, which some of torch's functions insist on."""
    return type(device)("cuda:0") if str(device) == "cuda" else device
