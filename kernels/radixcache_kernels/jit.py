"""The one place where triton's untyped decorator meets the type checker, and the options of every launch."""

from collections.abc import Callable
from typing import Any, cast

import torch
import triton
import triton.language as tl

Decorator = Callable[[Callable[..., Any]], Any]

jit = cast("Decorator", triton.jit)


def jit_unspecialised(*arguments: str) -> Decorator:
    """`jit` without a variant for each kind of value (1, a multiple of 16) or alignment of these arguments.

    For what changes from step to step: a new variant is compiled for seconds, in the middle of serving.
    """
    return cast(
        "Decorator", triton.jit(do_not_specialize=arguments, do_not_specialize_on_alignment=arguments)
    )


INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""True if kernels run in triton's interpreter (TRITON_INTERPRET=1 when this module was imported)."""

LAUNCH_OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}
"""Nothing is fused but what says `tl.fma`, so that one formula rounds alike in every kernel."""

_DOT_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def dot_type(dtype: torch.dtype) -> Any:
    """What numbers of a dtype are multiplied as.

    Triton 3.9's interpreter multiplies the raw bits of bfloat16, so there it is widened first.
    """
    return tl.float32 if INTERPRETED and dtype == torch.bfloat16 else _DOT_TYPES[dtype]
