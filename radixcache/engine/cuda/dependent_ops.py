"""Finds operations of a model whose rounding may depend on how many rows there are.

Seen from a run of a few tokens, not from the model's parts: experts multiplied in a batch, a norm written
out, a router's softmax are all there to see, whatever they are called.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface

_TOKENS = 7
_TRIAL_ATTENTION = "radixcache_trial"

# Besides what is elementwise, a view or gives no floats: those that move, choose or make numbers as they are.
_EXACT = frozenset(
    {
        "_reshape_alias",
        "_to_copy",
        "_unsafe_view",
        "amax",
        "amin",
        "arange",
        "cat",
        "clone",
        "constant_pad_nd",
        "copy",
        "copy_",
        "detach",
        "embedding",
        "empty",
        "empty_like",
        "empty_strided",
        "fill",
        "fill_",
        "flip",
        "full",
        "full_like",
        "gather",
        "index",
        "index_copy",
        "index_copy_",
        "index_put",
        "index_put_",
        "index_select",
        "lift_fresh",
        "masked_fill",
        "masked_fill_",
        "masked_scatter",
        "max",
        "min",
        "new_empty",
        "new_empty_strided",
        "new_full",
        "new_ones",
        "new_zeros",
        "ones",
        "ones_like",
        "repeat",
        "repeat_interleave",
        "resize_",
        "roll",
        "scalar_tensor",
        "scatter",
        "scatter_",
        "set_",
        "sort",
        "split_with_sizes_copy",
        "stack",
        "topk",
        "tril",
        "triu",
        "zero_",
        "zeros",
        "zeros_like",
    }
)
_PRODUCTS = frozenset({"mm", "bmm", "addmm", "baddbmm"})


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operation that may depend on the number of rows, and the module that was running."""

    def __init__(self, running: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._running = running
        self.found: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.found is None and _may_depend(func, args, result):
            self.found = f"{self._running[-1]} computes {func._schema.name.removeprefix('aten::')}"
        return result


def find_dependent_operation(model: nn.Module, device: torch.device) -> str | None:
    """Run a few tokens through the model, without attention, and look at every operation.

    Returns:
        None if all are known to give a row bits of its own; else, in one line, the first that is not and
        the module it is in.
    """
    config: Any = model.config
    before = config._attn_implementation
    AttentionInterface.register(_TRIAL_ATTENTION, _no_attention)
    running = [type(model).__name__]
    hooks = []
    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: _ended(running)))
    try:
        _switch(model, _TRIAL_ATTENTION)
        with torch.no_grad(), _Watch(running) as watch:
            positions = torch.arange(_TOKENS, device=device).unsqueeze(0)
            model(
                input_ids=positions % config.get_text_config(decoder=True).vocab_size,
                position_ids=positions,
                use_cache=False,
                logits_to_keep=positions[0, -1:],
            )
    finally:
        for hook in hooks:
            hook.remove()
        _switch(model, before)
    return None if watch.found is None else f"{watch.found}, which may round by the number of rows"


def _switch(model: Any, attention: str) -> None:
    model.set_attn_implementation(attention)


def _ended(running: list[str]) -> None:
    running.pop()


def _no_attention(_module: nn.Module, query: Tensor, _key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
    """Zeros `[1, rows, heads, width of a value]`: what attention computes is not looked at here."""
    return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None


def _may_depend(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    if not any(output.is_floating_point() or output.is_complex() for output in outputs):
        return False
    space, _, name = func._schema.name.partition("::")
    if space != "aten":
        return True
    if torch.Tag.pointwise in func.tags or func.is_view or name in _EXACT:
        return False
    if name in _PRODUCTS:
        # With one number to add up there is nothing to round in another order: rotary angles.
        left = args[1] if name in ("addmm", "baddbmm") else args[0]
        return bool(left.shape[-1] != 1)
    return True
