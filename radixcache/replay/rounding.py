"""How far apart rounding alone can put two logits that exact arithmetic would order the other way round.

The same sums in another order, as in another batch or chunking, give logits that differ a little. Two runs
may then choose different tokens where the two likeliest are closer together than that. Where they are further
apart, something else is at work.
"""

from __future__ import annotations

import math

__all__ = ["rounding_bound"]

_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# Relative distance of neighbouring stored numbers; of codes, that of the largest number of a head.
_KV_EPSILON = {
    "auto": 0.0,
    "fp16": 2.0**-10,
    "bf16": 2.0**-7,
    "fp8": 2.0**-3,
    "int8": 2.0**-7,
    "int4": 2.0**-3,
}
# Epsilons of the spread. Half precision rounds between operations and adds up in float32; in float32 the
# additions of a product round, too. Thirty layers moved margins by 5 (at most 45) between chunkings in
# float32 and by 1 (at most 6) from float32 to bfloat16.
_FACTOR = {"float32": 64.0, "float16": 8.0, "bfloat16": 8.0}


def rounding_bound(dtype: str, kv_dtype: str, spread: float) -> float | None:
    """The largest margin, in logits, at which rounding may have changed the likeliest token.

    An estimate, generous by design, that needs no knowledge of the model: a multiple of `dtype`'s epsilon
    times `spread`, 64 epsilons in float32 and 8 in half precision. Stored codes that are coarser than `dtype`
    turn a rare tiny error into a whole step, as random rounding would: on average the geometric mean of both
    epsilons.

    Args:
        dtype: what the model computes in: `float32`, `float16` or `bfloat16`.
        kv_dtype: what keys and values are stored as, as in `EngineConfig`.
        spread: distance in logits between the likeliest token and those that hardly matter.

    Returns:
        None for a type that is not known.
    """
    if dtype not in _EPSILON or kv_dtype not in _KV_EPSILON:
        return None
    own, stored = _EPSILON[dtype], _KV_EPSILON[kv_dtype]
    return _FACTOR[dtype] * max(own, math.sqrt(own * stored) if stored > own else 0.0) * spread
