"""What happens in a step: schedule, compute, sample, hand out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence as SequenceOf
from time import perf_counter

import numpy as np
from torch import Tensor

from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.config import EngineConfig
from radixcache.engine.handle import RequestHandle
from radixcache.engine.request import Request, Sequence
from radixcache.engine.rows import rows_of
from radixcache.engine.runner import ModelRunner
from radixcache.engine.sampling import SampledToken, sample
from radixcache.engine.scheduler import Chunk, Scheduler, SchedulingError
from radixcache.engine.staging import to_device
from radixcache.engine.stats import EngineStats
from radixcache.engine.step import SequenceRows
from radixcache.errors import RadixCacheError, describe
from radixcache.models import LoadedModel

_logger = logging.getLogger("radixcache.engine")


class StepLoop:
    """The engine without its thread: requests in, one step at a time, results to handles.

    On a device that computes while the host goes on, only what the next step hangs on is done between two
    steps; the text of a step's tokens is made and handed out while the next one is computed. A step that
    completes no sequence is not waited for at all.

    An error fails only the requests that fail by themselves: a forward pass that raises is repeated with
    half of its sequences each time, sampling row by row, and everything else is done a sequence at a time.
    After an error inside the control plane, which may be left half changed, the cache is emptied and whoever
    runs begins again.
    """

    def __init__(
        self, cache: PrefixCache, runner: ModelRunner, model: LoadedModel, config: EngineConfig
    ) -> None:
        self._cache = cache
        self._runner = runner
        self._model = model
        self._scheduler = Scheduler(cache, config)
        self._requests: dict[RequestHandle, Request] = {}
        self._untold: deque[tuple[Sequence, int]] = deque()  # tokens whose text nobody has seen yet
        self._failed_steps = 0  # in a row, for reasons that name no request
        self._prefill_tokens = self._decode_tokens = self._steps = 0
        self._step_s = self._control_s = self._waste = 0.0
        self.vocab_size = int(model.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def has_work(self) -> bool:
        """Anything waits or runs."""
        return self._scheduler.has_work

    def add(self, request: Request) -> None:
        """Queue a request, whose first sequence has been made."""
        self._requests[request.handle] = request
        self._scheduler.add(request.sequences[0])

    def abort(self, handle: RequestHandle) -> None:
        """End a request early; its handle gets what was generated."""
        request = self._requests.get(handle)
        if request is not None:
            self._end(request)

    def fail(self, handle: RequestHandle, error: BaseException) -> None:
        """End a request with an error."""
        request = self._requests.get(handle)
        if request is None:
            handle.fail(error)
        else:
            self._fail(request, error)

    def abort_all(self) -> None:
        """End every request early."""
        for handle in self.handles():
            self.abort(handle)

    def handles(self) -> list[RequestHandle]:
        """Those of all requests that wait or run."""
        return list(self._requests)

    def close(self) -> None:
        """Drop all requests, whose handles are not told, and free the pool. No step comes afterwards."""
        self._requests.clear()
        self._untold.clear()
        try:
            self._scheduler.clear()
            self._cache.abandon()
        finally:
            self._runner.close()

    def step(self) -> int:
        """One forward pass. An error fails the requests that it comes from and leaves no block behind.

        Returns:
            How many requests ended with it.
        """
        started = perf_counter()
        requests = len(self._requests)
        try:
            chunks = self._scheduler.schedule()
            self._control_s += perf_counter() - started
            if chunks:
                self._compute(chunks)
            else:
                self._tell_text()
            self._failed_steps = 0
        except SchedulingError as error:
            self._fail_control(error.sequence.request, error.__cause__ or error)
        except Exception as error:
            self._stumble(error)
        self._step_s += perf_counter() - started
        return requests - len(self._requests)

    def stats(self) -> EngineStats:
        """Counters now."""
        return EngineStats(
            cache=self._cache.stats(),
            prefill_tokens=self._prefill_tokens,
            decode_tokens=self._decode_tokens,
            steps=self._steps,
            step_s=self._step_s,
            control_s=self._control_s,
            block_waste=self._waste / self._steps if self._steps else 0.0,
            preemptions=self._scheduler.preemptions,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            batch_invariant=self._runner.batch_invariant,
            variance=self._runner.variance,
        )

    def _compute(self, chunks: SequenceOf[Chunk]) -> None:
        """Compute chunks in one forward pass, or in several if one raises."""
        try:
            rows = [rows_of(chunk, self._runner.asynchronous) for chunk in chunks]
            logits = self._forward(chunks, rows)
        except Exception as error:
            if len(chunks) == 1:
                self._fail(chunks[0].sequence.request, error)
                return
        else:
            self._commit(chunks)
            self._tell_text()
            self._take_tokens(chunks, rows, logits)
            return
        middle = len(chunks) // 2
        for half in (chunks[:middle], chunks[middle:]):
            # What the first half leads to may fail or preempt sequences of the second.
            left = [chunk for chunk in half if chunk.sequence.lease is not None]
            if left:
                self._compute(left)

    def _forward(self, chunks: SequenceOf[Chunk], rows: list[SequenceRows]) -> Tensor:
        leases = [chunk.sequence.lease for chunk in chunks]
        held = [lease for lease in leases if lease is not None]
        # Done again if the step is repeated: until they are committed nothing else is in these blocks.
        self._runner.prepare(
            [block for lease in held for block in lease.fresh_blocks],
            [copy for lease in held for copy in lease.copies],
        )
        return self._runner.forward(rows)

    def _commit(self, chunks: SequenceOf[Chunk]) -> None:
        before = perf_counter()
        for chunk in chunks:
            request, lease = chunk.sequence.request, chunk.sequence.lease
            if lease is None:
                continue  # failed, or begins again, with one of the sequences before
            try:
                lease.commit(chunk.stop)
            except Exception as error:
                self._fail_control(request, error)
                continue
            self._prefill_tokens += max(0, min(len(request.prompt), chunk.stop) - chunk.start)
        self._waste += self._cache.block_waste
        self._steps += 1
        self._control_s += perf_counter() - before

    def _take_tokens(self, chunks: SequenceOf[Chunk], rows: list[SequenceRows], logits: Tensor) -> None:
        """Sample for every chunk that completes its sequence and deal the tokens out."""
        chosen: list[int] = []
        sequences: list[Sequence] = []
        first = 0
        for chunk, part in zip(chunks, rows, strict=True):
            kept = logits[first : first + part.keep]
            first += part.keep
            sequence = chunk.sequence
            if sequence.request.wants_prompt_logprobs and sequence.lease is not None:
                try:
                    sequence.request.note_prompt_logprobs(chunk.start, kept)
                except Exception as error:
                    self._fail(sequence.request, error)
            if chunk.completes:  # and has not failed
                family = self._family(sequence)
                chosen += [first - 1] * len(family)
                sequences += family
        if not sequences:
            return
        if chosen != list(range(len(logits))):
            logits = logits[to_device(np.asarray(chosen), logits.device)]
        for sequence, token in zip(sequences, _sample(logits, sequences), strict=True):
            if isinstance(token, Exception):
                self._fail(sequence.request, token)
                continue
            try:
                self._take(sequence, token)
            except Exception as error:
                self._fail_control(sequence.request, error)

    def _family(self, sequence: Sequence) -> list[Sequence]:
        """The sequence, and with it, where the prompt ends, as many new siblings as may run.

        One that may not waits like a new request and brings the others in its turn.
        """
        request = sequence.request
        family = [sequence]
        try:
            if sequence.output_ids or len(request.sequences) > sequence.index + 1:
                return family
            while len(request.sequences) < request.params.n:
                sibling = request.new_sequence(self._model)
                if self._scheduler.full:
                    self._scheduler.add(sibling)
                    break
                self._scheduler.start_sibling(sequence, sibling)
                family.append(sibling)
        except Exception as error:
            self._fail_control(request, error)
            return []
        return family

    def _take(self, sequence: Sequence, token: SampledToken) -> None:
        request = sequence.request
        if request.handle.done:  # a sibling failed
            return
        if request.first_token_at is None:
            request.first_token_at = perf_counter()
        self._decode_tokens += 1
        sequence.output_ids.append(token.token_id)
        if token.logprob is not None:
            sequence.logprobs.append(token.logprob)
        sequence.finish_reason = self._finish_reason(sequence, token.token_id)
        if sequence.finish_reason is None:
            before = perf_counter()
            self._scheduler.grow(sequence, token.token_id)
            self._control_s += perf_counter() - before
            return
        if sequence.text is not None and sequence.index == 0:
            self._tell_text()
            try:
                request.handle.push(sequence.text.finish())
            except Exception as error:
                self._fail(request, error)
                return
        self._scheduler.remove(sequence)
        if request.finished:
            self._end(request)

    def _finish_reason(self, sequence: Sequence, token: int) -> str | None:
        """Stream the token's text, now or during the next step, and say whether it is the last."""
        params = sequence.request.params
        if token in sequence.sampler.stop_ids and len(sequence.output_ids) > params.min_tokens:
            return "stop"
        if sequence.text is not None:
            self._untold.append((sequence, token))
            if params.stop or not self._runner.asynchronous:
                self._tell_text()
            if sequence.text.stopped:
                return "stop"
        return "length" if len(sequence.output_ids) >= params.max_tokens else None

    def _tell_text(self) -> None:
        """Make the text of the tokens that have none yet and stream it."""
        while self._untold:
            sequence, token = self._untold.popleft()
            request = sequence.request
            try:
                assert sequence.text is not None
                piece = sequence.text.push(token)
                if sequence.index == 0:
                    request.handle.push(piece)
            except Exception as error:
                self._fail(request, error)

    def _end(self, request: Request) -> None:
        """Finish a request, or fail it if that is impossible."""
        self._tell_text()
        try:
            result = request.result()
            self._drop(request)
            request.handle.finish(result)
        except Exception as error:
            self._fail(request, error)
        self._requests.pop(request.handle, None)

    def _fail(self, request: Request, error: BaseException) -> None:
        """End a request with an error that touches nothing else; harmless if it has ended."""
        self._untold = deque(item for item in self._untold if item[0].request is not request)
        self._drop(request)
        request.handle.fail(error)
        self._requests.pop(request.handle, None)

    def _fail_control(self, request: Request, error: BaseException) -> None:
        """End a request with an error of the control plane."""
        self._fail(request, error)
        if not isinstance(error, RadixCacheError):  # which are raised before anything has changed
            self._begin_again(error)

    def _drop(self, request: Request) -> None:
        """Take a request's sequences out and give their blocks back."""
        for sequence in request.sequences:
            try:
                self._scheduler.remove(sequence)
            except Exception as error:
                self._begin_again(error)

    def _stumble(self, error: Exception) -> None:
        """A step failed for a reason that names no request: try it again, then without the newest one."""
        self._failed_steps += 1
        if self._failed_steps > 1 and self._requests:
            newest = max(self._requests.values(), key=lambda request: request.submitted_at)
            self._fail(newest, error)
        for sequence in list(self._scheduler.running):
            if sequence.sampler.num_tokens != len(sequence.output_ids):  # its token is lost
                self._fail(sequence.request, error)
        self._begin_again(error)

    def _begin_again(self, error: BaseException) -> None:
        """Empty the cache and let whoever runs compute again; what they have generated stays."""
        _logger.error("the cache is emptied after an unexpected error: %s", describe(error), exc_info=error)
        self._scheduler.restart()
        self._cache.abandon()


def _sample(logits: Tensor, sequences: list[Sequence]) -> SequenceOf[SampledToken | Exception]:
    """A token for each row of `logits`, or what keeps it from having one."""
    try:
        return sample(logits, [sequence.sampler for sequence in sequences])
    except Exception as error:
        if len(sequences) == 1:
            return [error]
        # Row by row. A row that was drawn already draws the same token; one that was noted is lost.
        return [
            error
            if sequence.sampler.num_tokens > len(sequence.output_ids)
            else _sample(logits[row : row + 1], [sequence])[0]
            for row, sequence in enumerate(sequences)
        ]
