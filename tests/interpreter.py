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
        for column, row in zip(np.ascontiguousarray(left.T), right, strict=True):
            np.multiply(column[:, None], row, out=product)
            total += product
        return interpreter.TensorHandle(total, d.dtype.scalar)

    with patch.object(interpreter.InterpreterBuilder, "create_dot", create_dot):
        yield
