"""The int4 format: groups of channels of one token, each with its own zero and step.

Values have 4 bits a number, keys 6: the channels of a key differ much in size, and at 4 bits a key is only
good enough by channel over many tokens, which would tie a token's stored form to tokens that come after it.
With 6 bits by token it is as good, and written once.

A head's codes of 4 bits (a key's low ones) are bytes, two codes each, the first in the low half. Beside them
lie int16 words: zeros of the groups, steps of the groups, and for keys the two high bits of the codes, eight
codes a word. Zeros and steps are the upper halves of float32, as bfloat16 is; a number is code x step + zero.
The zero is rounded down and the step up, so that no number of the group lies outside.
"""

from __future__ import annotations

import torch
from torch import Tensor

_KEY_BITS, _VALUE_BITS = 6, 4
_UPPER = -0x10000
_LOWER = 0xFFFF


def group_of(head_dim: int) -> int:
    """Channels of a group.

    Raises:
        ValueError: heads of this width cannot be stored so.
    """
    if head_dim % 16:
        raise ValueError(
            f"kv_dtype is 'int4', which needs heads of a multiple of 16 elements, not {head_dim}"
        )
    return 32 if head_dim % 32 == 0 else 16


def side_words(head_dim: int, *, keys: bool) -> int:
    """int16 words beside the codes of one head of one token."""
    return 2 * (head_dim // group_of(head_dim)) + (head_dim // 8 if keys else 0)


def quantise_int4(numbers: Tensor, *, keys: bool) -> tuple[Tensor, Tensor]:
    """Codes `[..., head_dim // 2]` and words of float32 `[..., head_dim]`.

    A group that is not finite gets an infinite step, so that it is read as something not finite.
    """
    levels = 2 ** (_KEY_BITS if keys else _VALUE_BITS) - 1
    heads = numbers.shape[:-1]
    parts = numbers.reshape(*heads, -1, group_of(numbers.shape[-1]))
    finite = parts.isfinite()
    parts = parts.masked_fill(~finite, 0.0)
    low = parts.amin(-1).view(torch.int32)
    zero_bits = torch.where(low < 0, low + _LOWER, low) & _UPPER
    zeros = zero_bits.view(torch.float32)
    # By a tensor: on a GPU torch multiplies by the reciprocal of a plain number, which is not as exact.
    steps = (parts.amax(-1) - zeros) / torch.full_like(zeros, levels)
    steps.masked_fill_(~finite.all(-1), torch.inf)
    step_bits = (steps.view(torch.int32) + _LOWER) & _UPPER
    steps = step_bits.view(torch.float32)
    codes = (parts - zeros.unsqueeze(-1)) / steps.masked_fill(steps == 0, 1.0).unsqueeze(-1)
    codes = codes.round_().clamp_(max=levels).to(torch.int32).flatten(-2)
    pairs = (codes & 15).view(*heads, -1, 2)
    words = [(zero_bits >> 16).to(torch.int16), (step_bits >> 16).to(torch.int16)]
    if keys:
        eights = (codes >> 4).view(*heads, -1, 8) << torch.arange(0, 16, 2, device=codes.device)
        words.append(eights.sum(-1).to(torch.int16))
    return (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8), torch.cat(words, dim=-1)


def dequantise_int4(packed: Tensor, words: Tensor) -> Tensor:
    """The float32 `[..., head_dim]` that bytes and words stand for."""
    head_dim = packed.shape[-1] * 2
    heads, groups = packed.shape[:-1], head_dim // group_of(head_dim)
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    high = words[..., 2 * groups :]
    if high.shape[-1]:
        shifts = torch.arange(0, 16, 2, dtype=torch.int16, device=words.device)
        fields = (high.unsqueeze(-1) >> shifts).bitwise_and_(3).to(torch.uint8)
        codes |= fields.flatten(-2) << 4
    scales = (words[..., : 2 * groups].to(torch.int32) << 16).view(torch.float32)
    zeros, steps = scales.view(*heads, 2, groups, 1).unbind(-3)
    return codes.float().view(*heads, groups, -1).mul_(steps).add_(zeros).flatten(-2)
