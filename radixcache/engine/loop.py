"""What happens in a step: schedule, compute, sample, hand out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from time import perf_counter

from radixcache.cache.lease import BlockCopy
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.chunk import Chunk, ChunkKind
from radixcache.engine.config import EngineConfig
from radixcache.engine.deadlines import Deadlines
from radixcache.engine.drafting import Drafter, Drafts
from radixcache.engine.executor import Executor, StepInput, StepOutput
from radixcache.engine.handle import RequestHandle
from radixcache.engine.loading import Loader, Loading
from radixcache.engine.noting import Noting
from radixcache.engine.outbox import Outbox
from radixcache.engine.planning import PlannedChunk, StepPlan
from radixcache.engine.queue_limit import QueueLimit
from radixcache.engine.request import Request, Sequence
from radixcache.engine.scheduler import Scheduler, SchedulingError
from radixcache.engine.stats import EngineStats
from radixcache.errors import RadixCacheError, describe
from radixcache.models import LoadedModel

_logger = logging.getLogger("radixcache.engine")


class StepLoop:
    """The engine without its thread: requests in, one step at a time, results to handles.

    On a device that computes while the host goes on, only what the next step depends on is done between two
    steps; the text of a step's tokens is made and handed out while the next one is computed. A step that
    completes no sequence is not waited for at all.

    An error fails only the requests that cause it: a step that raises is repeated with half of its sequences
    each time, sampling row by row, and everything else is done a sequence at a time. After an error inside
    the control plane, which may be left half changed, the cache is emptied and the running sequences begin
    again.

    Attributes:
        executor: computes and samples.
        vocab_size: token ids are below this.
        stalled: the last step found nothing to compute though sequences wait: for loads, or for blocks that
            are being copied out.
    """

    def __init__(
        self,
        cache: PrefixCache,
        executor: Executor,
        model: LoadedModel,
        config: EngineConfig,
        *,
        limit: QueueLimit | None = None,
        loader: Loader | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self.executor = executor
        self._cache = cache
        self._model = model
        self._loading = Loading(cache, loader, self._prepare, self._renewed)
        self._scheduler = Scheduler(
            cache,
            config,
            limit or QueueLimit(None, config.max_running),
            self._loading,
            None if drafter is None else Drafts(drafter),
        )
        self._requests: dict[RequestHandle, Request] = {}
        self._deadlines = Deadlines()
        self._outbox = Outbox(self._fail)
        self._noting = Noting(model, self._outbox)
        self._failed_steps = 0  # in a row, for reasons that name no request
        self._prefill_tokens = self._steps = 0
        self._step_s = self._control_s = self._waste = 0.0
        self.stalled = False
        self.vocab_size = int(model.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def has_work(self) -> bool:
        """Anything waits, loads or runs."""
        return self._scheduler.has_work

    @property
    def next_deadline(self) -> float | None:
        """`perf_counter` at which the next request may run out of time."""
        return self._deadlines.next

    def on_loaded(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on any thread, whenever a load is done."""
        self._loading.wake = wake

    def add(self, request: Request) -> None:
        """Queue a request, whose first sequence has been made."""
        self._requests[request.handle] = request
        if request.deadline is not None:
            self._deadlines.add(request.deadline, request.handle, self._requests)
        self._scheduler.add(request.sequences[0])

    def abort(self, handle: RequestHandle) -> None:
        """End a request early; its handle gets what was generated."""
        request = self._requests.get(handle)
        if request is not None:
            self._end(request, "abort")

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
        """The handles of all requests that wait or run."""
        return list(self._requests)

    def close(self) -> None:
        """Drop all requests, whose handles are not told, and free the pool. No step comes afterwards."""
        self._requests.clear()
        self._deadlines.clear()
        self._outbox.clear()
        try:
            self._scheduler.clear()
            self._loading.close()
            self._cache.abandon()
        finally:
            self.executor.close()

    def step(self) -> int:
        """One forward pass. An error fails the requests that it comes from and leaves no block behind.

        Returns:
            How many requests ended with it.
        """
        started = perf_counter()
        requests = len(self._requests)
        try:
            for handle in self._deadlines.due(started):
                if handle in self._requests:
                    self._end(self._requests[handle], "timeout")
            scheduling = perf_counter()
            chunks = self._scheduler.schedule()
            self._control_s += perf_counter() - scheduling
            self.stalled = not chunks
            if chunks:
                self._compute(chunks)
            else:
                self._outbox.flush()
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
            decode_tokens=self._noting.num_tokens,
            steps=self._steps,
            step_s=self._step_s,
            control_s=self._control_s,
            block_waste=self._waste / self._steps if self._steps else 0.0,
            preemptions=self._scheduler.preemptions,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            loading=len(self._loading),
            batch_invariant=self.executor.batch_invariant,
            variance=self.executor.variance,
        )

    def _prepare(self, new_blocks: SequenceOf[int], copies: SequenceOf[BlockCopy]) -> None:
        """Clear and copy blocks of the pool without computing anything."""
        self.executor.begin(StepInput((), new_blocks, copies)).result()

    def _renewed(self, blocks: SequenceOf[int]) -> None:
        """Blocks of the pool have contents that no step wrote."""
        self.executor.begin(StepInput((), loaded=blocks)).result()

    def _compute(self, chunks: SequenceOf[Chunk]) -> None:
        """Compute chunks in one step, or in several if one raises."""
        plan = StepPlan(self._scheduler.places, self.executor.asynchronous, self._model.eos_token_ids)
        try:
            for chunk in chunks:
                plan.add(chunk)
            pending = self.executor.begin(plan.step())
            self._outbox.flush()
            output = pending.result()
        except Exception as error:
            if len(chunks) == 1:
                self._fail(chunks[0].sequence.request, error)
                return
        else:
            self._take(plan.chunks, output)
            return
        middle = len(chunks) // 2
        for half in (chunks[:middle], chunks[middle:]):
            # What the first half leads to may fail or preempt sequences of the second.
            left = [chunk for chunk in half if chunk.sequence.lease is not None]
            if left:
                self._compute(left)

    def _take(self, planned: SequenceOf[PlannedChunk], output: StepOutput) -> None:
        """Note what was sampled, commit what was computed, and let the sequences go on or end."""
        before = perf_counter()
        going: list[Sequence] = []
        ended: list[Sequence] = []
        for part in planned:
            request = part.chunk.sequence.request
            if request.handle.done:  # its text could not be made
                continue
            try:
                family = self._noting.note(part, output)
            except Exception as error:
                self._fail(request, error)
                continue
            try:
                self._commit(part.chunk, family)
            except Exception as error:
                self._fail_control(request, error)
                continue
            for sequence in family:
                (going if sequence.finish_reason is None else ended).append(sequence)
        self._waste += self._cache.block_waste
        self._steps += 1
        self._control_s += perf_counter() - before
        if not self.executor.asynchronous:
            self._outbox.flush()
        # Those that end first: their blocks may be what the others need.
        for sequence in ended:
            try:
                self._scheduler.remove(sequence)
                if sequence.request.finished:
                    self._end(sequence.request, "abort")
            except Exception as error:
                self._fail_control(sequence.request, error)
        before = perf_counter()
        for sequence in going:
            try:
                self._scheduler.grow(sequence, sequence.output_ids[-1])
            except Exception as error:
                self._fail_control(sequence.request, error)
        self._control_s += perf_counter() - before

    def _commit(self, chunk: Chunk, family: list[Sequence]) -> None:
        """Publish what a chunk has computed, keep it as asked for, and start the new completions."""
        sequence, lease = chunk.sequence, chunk.sequence.lease
        if chunk.kind is ChunkKind.DECODE:  # all else was done with the chunk that ended the prompt
            if lease is not None:
                lease.commit(chunk.start + 1)
            return
        request = sequence.request
        if lease is not None:  # else it begins again, with one of the sequences before
            # Of drafted tokens those stay that were sampled; the last one sampled is not computed yet.
            stop = sequence.num_tokens - 1 if chunk.drafted else chunk.stop
            lease.commit(stop)
            if chunk.drafted:
                lease.truncate(stop)
            self._prefill_tokens += max(0, min(request.num_prompt_tokens, chunk.stop) - chunk.start)
            if request.retain and chunk.stop >= request.num_prompt_tokens:
                ranges, request.retain = request.retain, ()
                self._cache.retain(request.prompt, ranges, request.namespace)
        for sibling in family[1:]:
            if lease is None:
                self._scheduler.add(sibling)
            else:
                self._scheduler.start_sibling(sequence, sibling)
        if family and family[-1] is request.sequences[-1] and len(request.sequences) < request.params.n:
            # There is no place for the next one: it waits like a new request, and then brings the others.
            self._scheduler.add(request.new_sequence(self._model))

    def _end(self, request: Request, reason: str) -> None:
        """Finish a request, or fail it if that is impossible; `reason` is that of unfinished sequences."""
        for sequence in request.sequences:
            if sequence.finish_reason is None:
                sequence.finish_reason = reason
                self._outbox.end(sequence, reason)
        self._outbox.flush()
        if request.handle.done:  # its text could not be made
            return
        try:
            result = request.result()
            self._drop(request)
            request.handle.finish(result)
        except Exception as error:
            self._fail(request, error)
        self._requests.pop(request.handle, None)

    def _fail(self, request: Request, error: BaseException) -> None:
        """End a request with an error that touches nothing else; harmless if it has ended."""
        self._outbox.drop(request)
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
                self._scheduler.remove(sequence)  # it waits now, without a lease
        try:
            self.executor.forget(request.number)
        except Exception:
            _logger.exception("the sampling state of a request could not be dropped")

    def _stumble(self, error: Exception) -> None:
        """A step failed for a reason that names no request: try it again, then without the newest one."""
        self._failed_steps += 1
        if self._failed_steps > 1 and self._requests:
            newest = max(self._requests.values(), key=lambda request: request.submitted_at)
            self._fail(newest, error)
        self._begin_again(error)
        for request in list(self._requests.values()):
            if request.finished:  # noted, and not ended: the step failed between the two
                self._end(request, "abort")

    def _begin_again(self, error: BaseException) -> None:
        """Empty the cache and compute the running sequences again; what they have generated stays."""
        _logger.error("the cache is emptied after an unexpected error: %s", describe(error), exc_info=error)
        self._scheduler.restart()
        self._cache.abandon()
