"""Triton's interpreter, made to multiply matrices as a GPU does: a number of the result in one order.

As it is, it calls a BLAS library, in which a row's bits can depend on its place in the tile and on the
processor; and it multiplies the raw bits of bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np


def interpreter_fault() -> str | None:
    """Why kernels cannot be interpreted with the versions that are installed; None if they can."""
    import torch
    import triton
    import triton.language as tl

    @triton.jit
    def count(out: tl.tensor, end: tl.tensor) -> None:
        total = 0
        for step in range(tl.load(end)):
            total += step
        tl.store(out, total)

    out, end = torch.zeros(1, dtype=torch.int32), torch.full((1,), 4, dtype=torch.int32)
    try:
        count[(1,)](out, end)
    except TypeError as error:
        return (
            f"the interpreter of triton {triton.__version__} cannot run a loop with numpy {np.__version__} "
            f"({error}): install an older numpy or a newer triton"
        )
    return None


@contextmanager
def ordered_products() -> Iterator[None]:
    """In the interpreter, `tl.dot` adds to the accumulator from the first inner index to the last."""
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_dot

    def create_dot(builder: Any, a: Any, b: Any, d: Any, *precision: Any) -> Any:
        if d.data.dtype != np.float32 or a.data.ndim != 2 or a.data.dtype not in (np.float16, np.float32):
            return plain(builder, a, b, d, *precision)
        left, right = a.data.astype(np.float32), b.data.astype(np.float32)
        total, product = d.data.copy(), np.empty_like(d.data)
        # Padding adds nothing.
        used = left.any(0) | right.any(1)
        for column, row in zip(np.ascontiguousarray(left.T)[used], right[used], strict=True):
            np.multiply(column[:, None], row, out=product)
            total += product
        return interpreter.TensorHandle(total, d.dtype.scalar)

    with patch.object(interpreter.InterpreterBuilder, "create_dot", create_dot):
        yield
