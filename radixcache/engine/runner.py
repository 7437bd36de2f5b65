"""Runs a model over one flattened step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radixcache.engine.attention import ATTENTION_NAME, active_step, register
from radixcache.engine.backends import Backend
from radixcache.engine.cpu_model import prepare_for_cpu
from radixcache.engine.cuda.graphs import StepGraphs
from radixcache.engine.cuda.pace import Pace
from radixcache.engine.cuda.recorder import Recorder
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.kv.pool import PagedPool
from radixcache.lease import BlockCopy
from radixcache.models import LoadedModel


class ModelRunner:
    """One model, one pool, one backend.

    Attributes:
        row_multiple: rows of a step are padded to a multiple of this.
        batch_invariant: a row's logits do not depend on what else is in its step, as far as
            the trial of the model's products shows (always False on a GPU).
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
    ) -> None:
        """Prepare the model for `pool`; with a recorder, decode steps of up to `max_lines` are replayed."""
        register()
        loaded.model.set_attn_implementation(ATTENTION_NAME)
        self._model = loaded.model
        self._pool = pool
        self._backend = backend
        multiple = prepare_for_cpu(loaded.model) if pool.device.type == "cpu" else None
        self.batch_invariant = multiple is not None
        self.row_multiple = multiple or 1
        self.asynchronous = recorder is not None or pool.device.type == "cuda"
        self._pace = Pace() if pool.device.type == "cuda" else None
        self._graphs = None if recorder is None else StepGraphs(self._compute, backend, recorder, max_lines)

    def prepare(self, fresh_blocks: Sequence[int], copies: Sequence[BlockCopy]) -> None:
        """Clear newly allocated blocks, then do the copies; before the step that needs them."""
        if fresh_blocks:
            self._backend.clear(fresh_blocks)
        if copies:
            self._backend.copy(copies)

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

    @torch.inference_mode()
    def try_step(self, sequences: Sequence[SequenceRows], backend: Backend) -> Tensor:
        """As `forward`, on the pool of another backend, unrecorded."""
        return self._eager(sequences, backend)

    def _eager(self, sequences: Sequence[SequenceRows], backend: Backend) -> Tensor:
        pool = backend.pool
        batch = StepBatch(
            sequences, pool.layout.block_size, row_multiple=self.row_multiple, device=pool.device
        )
        backend.begin(batch)
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
