"""Runs a model over one flattened step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal
from weakref import WeakKeyDictionary

import torch
import xxhash
from torch import Tensor, nn

from radixcache.cache.lease import BlockCopy
from radixcache.engine.attention import ATTENTION_NAME, active_step, register
from radixcache.engine.backends import Backend
from radixcache.engine.cpu.functions import SettledFunctions
from radixcache.engine.cpu.prepare import has_loose_weights, prepare_for_cpu
from radixcache.engine.cuda.graphs import StepGraphs
from radixcache.engine.cuda.pace import Pace
from radixcache.engine.cuda.recorder import Recorder
from radixcache.engine.invariance import row_multiple
from radixcache.engine.private_copy import private_copy
from radixcache.engine.self_check import check_model, try_model
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.engine.verify import TRIAL_TOKENS, differing_rows
from radixcache.kv.layout import layer_config
from radixcache.kv.pool import PagedPool
from radixcache.models import LoadedModel
from radixcache.numerics.memory import fingerprint, remembered

# What models were checked with. It is how a model computes that is checked, which its weights do not change.
_checked: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()


class ModelRunner:
    """One model, one pool, one backend.

    Attributes:
        row_multiple: rows of a step are padded to a multiple of this.
        variance: why a row's logits may depend on what else is in its step; empty if they do not, as far
            as trials of the model's products, of attention and of the whole model show.
        numerics: names all that decides the bits of keys and values here: what was computed under another
            name may differ by rounding.
        asynchronous: `forward` may return before the device is done, as on a GPU.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        pool: PagedPool,
        backend: Backend,
        *,
        recorder: Recorder | None = None,
        max_lines: int = 1,
        invariant: bool | Literal["auto"] = "auto",
    ) -> None:
        """Prepare a copy of the model for `pool`.

        Args:
            loaded: stays as it is; on a GPU its parameters are shared.
            pool: where keys and values are.
            backend: serves that pool.
            recorder: with one, decode steps of up to `max_lines` sequences are recorded and replayed.
            invariant: compute so that a row's bits depend on that row alone, where that is possible; "auto"
                does on a CPU.
        """
        register()
        self._model = private_copy(loaded.model, share_weights=pool.device.type != "cpu")
        self._model.set_attn_implementation(ATTENTION_NAME)
        self._pool = pool
        self._backend = backend
        self._threads = torch.get_num_threads()
        self._settles = False
        self.row_multiple = 1
        self.numerics = str(pool.device)
        if pool.device.type == "cpu":
            wanted = invariant is not False
            backend.invariant = wanted
            prepare_for_cpu(self._model, invariant=wanted)
            self._settles = wanted and has_loose_weights(self._model)
            self.numerics = fingerprint()
        self._check(loaded)
        self.variance = self._settled(loaded, invariant)
        self.asynchronous = recorder is not None or pool.device.type == "cuda"
        self._pace = Pace() if pool.device.type == "cuda" else None
        self._graphs = None if recorder is None else StepGraphs(self._compute, backend, recorder, max_lines)

    @property
    def model(self) -> nn.Module:
        """The runner's own copy of the model, prepared."""
        model: nn.Module = self._model
        return model

    @property
    def batch_invariant(self) -> bool:
        """A row's logits do not depend on what else is in its step."""
        return not self.variance

    @torch.inference_mode()  # the pool may have been made in it
    def prepare(self, fresh_blocks: Sequence[int], copies: Sequence[BlockCopy]) -> None:
        """Clear newly allocated blocks, then do the copies; before the step that needs them."""
        if fresh_blocks:
            self._backend.clear(fresh_blocks)
        if copies:
            self._backend.copy(copies)

    def renewed(self, blocks: Sequence[int]) -> None:
        """Blocks of the pool were filled by something else than a step; before the step that reads them."""
        self._backend.renewed(blocks)

    def close(self) -> None:
        """Free the pool, what the backend keeps of it, and recorded steps; nothing can be computed then."""
        self._graphs = None
        self._backend.close()
        self._pool.free()

    @torch.inference_mode()
    def forward(self, sequences: Sequence[SequenceRows]) -> Tensor:
        """Compute a step and store its keys and values.

        Returns:
            Float32 logits `[sum of keep, vocabulary]`, in the order of the sequences; valid until the next
            call. On a GPU they may not be there yet: what is queued after them finds them there.
        """
        logits = None if self._graphs is None else self._graphs.forward(sequences)
        if logits is None:
            logits = self._eager(sequences, self._backend)
        if self._pace is not None:
            self._pace.mark()
        return logits

    def _eager(self, sequences: Sequence[SequenceRows], backend: Backend) -> Tensor:
        pool = backend.pool
        batch = StepBatch(
            sequences, pool.layout.block_size, row_multiple=self.row_multiple, device=pool.device
        )
        backend.begin(batch)
        with ExitStack() as stack:
            if pool.device.type == "cpu":
                stack.enter_context(_threads(self._threads))
            if self._settles:
                stack.enter_context(SettledFunctions())
            return self._compute(batch, backend)

    def _compute(self, batch: StepBatch, backend: Backend | None = None) -> Tensor:
        with active_step(batch, backend or self._backend):
            out = self._model(
                input_ids=batch.token_ids.unsqueeze(0),
                position_ids=batch.positions.unsqueeze(0),
                use_cache=False,
                logits_to_keep=batch.keep_rows,
            )
        logits: Tensor = out.logits[0, : batch.num_kept]
        return logits.float()

    @torch.inference_mode()
    def _check(self, loaded: LoadedModel) -> None:
        """Refuse a model that is computed wrongly here; tried once for a model and a kind of backend."""
        tried = _checked.setdefault(loaded.model, set())
        kind = f"{type(self._backend).__name__} {loaded.dtype}"
        if kind not in tried:
            check_model(loaded, self._eager, try_model(loaded))
            tried.add(kind)

    def _settled(self, loaded: LoadedModel, invariant: bool | Literal["auto"]) -> str:
        """Make rows independent where that is asked for, and say why they are not."""
        if invariant is False:
            return "invariant is False"
        if self._pool.device.type == "cpu":
            return self._settle_on_cpu(loaded)
        if invariant is True:
            return self._settle_on_gpu(loaded)
        return "a GPU's libraries round a row by the number of rows, and invariant is not True"

    def _settle_on_cpu(self, loaded: LoadedModel) -> str:
        """Find how steps are padded, and try the whole model."""
        if not self._backend.has_row_rules:
            return f"attention by {type(self._backend).__name__} has no row rules on a CPU"
        multiple = row_multiple(self._model)
        if multiple is None or multiple > 64:
            return "no number of rows was found at which this CPU's matrix products always round alike"
        self.row_multiple = multiple
        differing = self._tried(loaded)
        if differing and not self._settles:
            self._settles = True
            differing = self._tried(loaded)
        if differing:
            return f"{differing} rows of a trial differed by rounding in other company ({loaded.dtype})"
        return ""

    def _settle_on_gpu(self, loaded: LoadedModel) -> str:
        from radixcache.engine.backends.triton import TritonBackend
        from radixcache.engine.cuda.invariant import make_invariant

        if not isinstance(self._backend, TritonBackend):
            return "attention on this device is not that of the Triton kernels"
        text = self._model.config.get_text_config(decoder=True)
        heads = [
            int(layer_config(text, layer).num_attention_heads)
            for layer in range(self._pool.layout.num_layers)
        ]
        fault = make_invariant(self._model, self._pool.device)
        return fault or self._backend.same_bits(heads, loaded.dtype) or ""

    def _tried(self, loaded: LoadedModel) -> int:
        """Rows that differed in the trial of this model, which is remembered by all that it depends on."""
        config = self._model.config
        facts = [
            json.dumps(config.to_dict(), sort_keys=True, default=str),
            f"{type(self._model).__qualname__} {loaded.dtype} {self._pool.layout}",
            f"{type(self._backend).__name__} {self._settles} {self.row_multiple}",
        ]
        name = f"model {xxhash.xxh3_128_hexdigest(repr(facts).encode())}"
        return int(remembered(name, self._try, lambda kept: type(kept) is int and kept >= 0))

    @torch.inference_mode()
    def _try(self) -> int:
        layout = self._pool.layout
        pool = PagedPool(layout, 3 * -(-TRIAL_TOKENS // (3 * layout.block_size)), self._pool.device)
        backend = type(self._backend)(pool)
        vocabulary = int(self._model.config.get_text_config(decoder=True).vocab_size)
        return differing_rows(lambda rows: self._eager(rows, backend), vocabulary, layout.block_size)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with as many threads as rounding was tried with, whatever was set since."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
