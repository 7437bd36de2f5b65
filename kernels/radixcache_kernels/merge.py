"""Merging the partial attention results of key/value splits, always in the same order with the same formula.

A partial result of some rows over some keys is `(acc, top, total)`: with scores s in units of log 2,
`top = max s`, `total = sum 2**(s - top)` and `acc = sum 2**(s - top) * value`, unnormalised, in float32. No
keys at all give `top = -inf` and zeros, and merging that changes no bit of the other side, so a row's result
depends on its own splits alone. The online form is that of Milakov and Gimelshein,
"Online normalizer calculation for softmax" (2018).

Products and sums are fused explicitly: the rounding then does not hang on what a compiler chooses to contract
in one kernel and not in another.
"""

import triton.language as tl

from radixcache_kernels.jit import jit


@jit
def finite_top(top: tl.tensor) -> tl.tensor:
    """`top`, or 0 where no key was seen, so that differences with it are never inf - inf."""
    return tl.where(top == -float("inf"), 0.0, top)


@jit
def merge_partial(
    acc: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    more_acc: tl.tensor,
    more_top: tl.tensor,
    more_total: tl.tensor,
) -> tl.tuple:
    """The partial result over the keys of both: [rows, dims], [rows] and [rows] each."""
    new_top = tl.maximum(top, more_top)
    base = finite_top(new_top)
    keep = tl.exp2(top - base)
    gain = tl.exp2(more_top - base)
    new_acc = tl.fma(more_acc, tl.broadcast_to(gain[:, None], acc.shape), acc * keep[:, None])
    return new_acc, new_top, tl.fma(more_total, gain, total * keep)


@jit
def finish(
    acc: tl.tensor, top: tl.tensor, total: tl.tensor, sinks: tl.tensor, heads: tl.tensor, live: tl.tensor
) -> tl.tensor:
    """Normalised rows; `sinks` (or None) is an extra logit a head that joins the denominator only.

    A row that saw no key gives zeros.
    """
    if sinks is not None:
        sink = tl.load(sinks + heads, mask=live, other=0.0).to(tl.float32) * 1.4426950408889634
        new_top = tl.maximum(top, sink)
        keep = tl.exp2(top - new_top)
        acc = acc * keep[:, None]
        total = tl.fma(total, keep, tl.exp2(sink - new_top))
    return acc / tl.where(total > 0.0, total, 1.0)[:, None]
