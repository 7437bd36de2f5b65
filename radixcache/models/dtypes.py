"""Which device and dtype to load a model in."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from radixcache.errors import ModelError
from radixcache.models.devices import with_index
from radixcache.models.gpu import kernel_fault
from radixcache.numerics.attention import attention_rule
from radixcache.numerics.products import product_rule

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Narrower, a product is all overhead and half the bytes win nothing.
_TOO_SMALL = 256


def choose_device(device: str) -> torch.device:
    """`auto` is the first CUDA device if there is one and our kernels run on it, else the CPU.

    Any other name that torch knows is taken as it is.

    Raises:
        ModelError: no such device here.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        fault = kernel_fault("cuda:0")
        if fault is None:
            return torch.device("cuda:0")
        warnings.warn(f"the GPU is not used, since our kernels do not run on it: {fault}", stacklevel=2)
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is not auto, cpu or cuda") from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise ModelError(f"device {device!r} asked for, but torch finds {count} CUDA devices")
    return with_index(chosen)


def choose_dtype(dtype: str, device: torch.device, config: Any) -> torch.dtype:
    """The dtype asked for; `auto` is what serves best on `device`, the same in every process on a machine.

    On a GPU `auto` is the checkpoint's own half precision, or bfloat16. On a CPU it is float32, or bfloat16
    on a CPU with units for it, if products and attention of the model's shapes were found by trial to round
    a row alike in any company; without such units it is several times slower.

    Raises:
        ModelError: no such dtype.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
        return DTYPES[dtype]
    if device.type != "cpu":
        own = getattr(config, "dtype", None)
        return own if own in (torch.bfloat16, torch.float16) else torch.bfloat16
    text = config.get_text_config()
    width = getattr(text, "hidden_size", 0)
    if width < _TOO_SMALL or not has_bfloat16_units() or not _is_invariant(text, torch.bfloat16):
        return torch.float32
    return torch.bfloat16


def has_bfloat16_units() -> bool:
    """Whether torch computes bfloat16 products on this CPU in units made for it (AMX or AVX512-BF16)."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False  # limited on purpose, or a CPU without
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


def _is_invariant(text: Any, dtype: torch.dtype) -> bool:
    """Whether row rules are found for products and attention of the widths that a configuration names."""
    width = int(text.hidden_size)
    inner = getattr(text, "intermediate_size", None)
    inner = inner if isinstance(inner, int) else 4 * width
    heads = getattr(text, "num_attention_heads", 1)
    head_dim = getattr(text, "head_dim", None) or width // heads
    shapes = ((width, width), (width, inner), (inner, width))
    products = (product_rule(*shape, dtype, packed=False) for shape in shapes)
    if any(rule is None for rule in products):
        return False
    return attention_rule(head_dim, dtype, soft_capped=False).rows is not None
