"""On a CPU: what CUDA graphs do to a computation, and a backend that can be recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from radixcache.cache.lease import BlockCopy
from radixcache.engine.backends import Backend, LayerOptions
from radixcache.engine.cuda.buffers import StaticBuffers
from radixcache.engine.step import StepBatch
from radixcache.kv.pool import PagedPool


class _Op(NamedTuple):
    call: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: list[Tensor]


class _Tape(TorchDispatchMode):
    """Notes each operation with the very tensors and numbers that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[_Op] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.ops.append(_Op(func, args, kwargs or {}, _tensors(result)))
        return result


class TapeRecorder:
    """Replays a recorded list of operations: no Python of the computation runs again.

    Inputs that a recording may not rely on are spoilt as soon as it is made: every tensor that was there
    before it, but for those in `lasting` and the static buffers.
    """

    def __init__(self, lasting: Callable[[], list[Tensor]]) -> None:
        self._lasting = lasting
        self.recordings = 0
        self.replays = 0

    def record(self, compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        with _Tape() as tape:
            compute()
        self.recordings += 1
        made: set[int] = set()
        lasting = {0} | {_place(tensor) for tensor in self._lasting()}
        for op in tape.ops:
            for tensor in _tensors((op.args, op.kwargs)):
                place = _place(tensor)
                if place not in made and place not in lasting:
                    tensor.fill_(torch.nan if tensor.is_floating_point() else tensor.dtype.itemsize * 11)
            made.update(_place(tensor) for tensor in op.outs)

        def replay() -> None:
            self.replays += 1
            for op in tape.ops:
                given = {_place(tensor) for tensor in _tensors((op.args, op.kwargs))}
                results = _tensors(op.call(*op.args, **op.kwargs))
                for old, new in zip(op.outs, results, strict=True):
                    # A view, or the target of an operation in place, is up to date already.
                    if _place(old) not in given:
                        old.copy_(new)

        return replay


class RerunRecorder:
    """Runs a recorded function again over what `owner` held when it was recorded.

    For computations that are not made of torch's operations, like Triton kernels in the interpreter.
    """

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self.replays = 0

    def record(self, compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        bound = dict(vars(self._owner))

        def replay() -> None:
            self.replays += 1
            held = dict(vars(self._owner))
            vars(self._owner).update(bound)
            compute()
            vars(self._owner).update(held)

        return replay


class GatherBackend(Backend):
    """Gathers every row's keys; driven by tensors alone, as kernels on a GPU are."""

    def __init__(self, pool: PagedPool) -> None:
        super().__init__(pool)
        self._slots = self._tables = self._lines = self._positions = torch.empty(0)

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        for source, target, tokens in copies:
            for pool in (*self.pool.keys, *self.pool.values):
                pool[target, :tokens] = pool[source, :tokens]

    def begin(self, batch: StepBatch) -> None:
        tables = np.full((batch.num_lines, batch.table_width), self.pool.null_block, dtype=np.int64)
        lines = np.arange(batch.num_rows)
        positions = np.full(batch.num_rows, -1)
        first = 0
        for line, item in enumerate(batch.sequences):
            tables[line, : len(item.block_table)] = item.block_table
            last = first + len(item.tokens)
            lines[first:last] = line
            positions[first:last] = np.arange(item.start, item.start + len(item.tokens))
            first = last
        self._slots = batch.slots
        self._tables = batch.upload("tables", tables)
        self._lines = batch.upload("lines", lines)
        self._positions = batch.upload("last", positions)

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        live = (self._slots >= 0)[:, None, None]
        where = self._slots.clamp(min=0)
        for pool, new in ((self.pool.keys[layer], key), (self.pool.values[layer], value)):
            slots = pool.flatten(0, 1)
            change = torch.where(live, new - slots[where], torch.zeros_like(new))
            slots.index_put_((where,), change, accumulate=True)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        heads = query.shape[1]
        tables = self._tables[self._lines]
        keys, values = (
            pool[tables].flatten(1, 2).repeat_interleave(heads // pool.shape[2], dim=2)
            for pool in (self.pool.keys[layer], self.pool.values[layer])
        )
        scores = torch.einsum("rhd,rkhd->rhk", query, keys) * options.scale
        places = torch.arange(keys.shape[1])[None, :]
        hidden = places > self._positions[:, None]
        if options.window is not None:
            hidden |= places <= self._positions[:, None] - options.window
        scores = scores.masked_fill(hidden[:, None], -1e30)
        weights = torch.softmax(scores, -1).masked_fill(hidden[:, None], 0.0)
        return torch.einsum("rhk,rkhd->rhd", weights, values)


def weights(model: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and what layers keep in place of them."""
    kept = [value for module in model.modules() for value in vars(module).values()]
    return [*model.parameters(), *model.buffers(), *_tensors(kept)]


def static_tensors(buffers: StaticBuffers) -> list[Tensor]:
    """The tensors through which a recorded step gets its inputs."""
    return list(buffers._tensors.values())


def _place(tensor: Tensor) -> int:
    """Where it lies; weights that a library has packed for itself lie where nobody sees."""
    return 0 if tensor.is_mkldnn else tensor.untyped_storage().data_ptr()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]
