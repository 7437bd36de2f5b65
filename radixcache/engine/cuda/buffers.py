"""Tensors at fixed addresses, through which everything that changes reaches a recorded step."""

from __future__ import annotations

import torch
from torch import Tensor

from radixcache.engine.staging import IntArray, to_device


class StaticBuffers:
    """The inputs of one recorded step, made by the first step that goes through it and filled by the others.

    Attributes:
        lines: sequences it is for; a step with fewer is padded.
        table_width: blocks of its block tables.
    """

    def __init__(self, lines: int, table_width: int, device: torch.device) -> None:
        self.lines = lines
        self.table_width = table_width
        self._device = device
        self._tensors: dict[str, Tensor] = {}

    def put(self, name: str, array: IntArray) -> Tensor:
        """The buffer of this name, now holding the array; the same tensor in every step.

        Raises:
            ValueError: shape or dtype differ from those of the first step.
        """
        known = self._tensors.get(name)
        if known is None:
            # A tensor of our own: on a CPU an upload would share the array's memory.
            known = self._tensors[name] = to_device(array, self._device).clone()
            return known
        staged = torch.from_numpy(array)
        if staged.shape != known.shape or staged.dtype != known.dtype:
            raise ValueError(
                f"{name} of a recorded step is {tuple(known.shape)} {known.dtype}, "
                f"not {tuple(staged.shape)} {staged.dtype}"
            )
        return to_device(array, self._device, into=known)
