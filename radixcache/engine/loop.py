"""What happens in a step: schedule, compute, sample, hand out."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from torch import Tensor

from radixcache.cache import PrefixCache
from radixcache.engine.config import EngineConfig
from radixcache.engine.detokenize import TextStream
from radixcache.engine.handle import RequestHandle
from radixcache.engine.request import Request, Sequence
from radixcache.engine.runner import ModelRunner
from radixcache.engine.sampling import SampledToken, Sampler, prompt_logprobs, sample
from radixcache.engine.scheduler import Chunk, Scheduler
from radixcache.engine.staging import to_device
from radixcache.engine.stats import EngineStats
from radixcache.engine.step import SequenceRows
from radixcache.errors import SamplingError
from radixcache.models import LoadedModel


class StepLoop:
    """The engine without its thread: requests in, one step at a time, results to handles.

    On a device that computes while the host goes on, only what the next step hangs on is done between two
    steps; the text of a step's tokens is made and handed out while the next one is computed. A step that
    completes no sequence is not waited for at all.
    """

    def __init__(
        self, cache: PrefixCache, runner: ModelRunner, model: LoadedModel, config: EngineConfig
    ) -> None:
        self._cache = cache
        self._runner = runner
        self._model = model
        self._scheduler = Scheduler(cache, config)
        self._requests: dict[RequestHandle, Request] = {}
        self._untold: list[tuple[Sequence, int]] = []  # tokens whose text nobody has seen yet
        self._prefill_tokens = self._decode_tokens = self._steps = 0
        self._step_s = self._control_s = self._waste = 0.0
        self.vocab_size = int(model.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def has_work(self) -> bool:
        """Anything waits or runs."""
        return self._scheduler.has_work

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._requests[request.handle] = request
        self._scheduler.add(self._new_sequence(request))

    def abort(self, handle: RequestHandle) -> None:
        """End a request early; its handle gets what was generated."""
        request = self._requests.get(handle)
        if request is not None:
            self._end(request)

    def abort_all(self) -> None:
        """End every request early."""
        for handle in list(self._requests):
            self.abort(handle)

    def step(self) -> int:
        """One forward pass. An error fails the requests at hand and leaves no block behind.

        Returns:
            How many requests ended with it.
        """
        started = perf_counter()
        requests = len(self._requests)
        chunks: list[Chunk] = []
        try:
            chunks = self._scheduler.schedule()
            self._control_s += perf_counter() - started
            if chunks:
                self._compute(chunks)
            else:
                self._tell_text()
        except Exception as error:
            self._fail(chunks, error)
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
        )

    def _compute(self, chunks: list[Chunk]) -> None:
        rows = [self._rows(chunk) for chunk in chunks]
        leases = [chunk.sequence.lease for chunk in chunks]
        held = [lease for lease in leases if lease is not None]
        self._runner.prepare(
            [block for lease in held for block in lease.fresh_blocks],
            [copy for lease in held for copy in lease.copies],
        )
        logits = self._runner.forward(rows)
        before = perf_counter()
        for chunk, lease in zip(chunks, held, strict=True):
            lease.commit(chunk.stop)
            self._prefill_tokens += max(0, min(len(chunk.sequence.request.prompt), chunk.stop) - chunk.start)
        self._waste += self._cache.block_waste
        self._steps += 1
        self._control_s += perf_counter() - before
        self._tell_text()
        self._take_tokens(chunks, rows, logits)

    def _rows(self, chunk: Chunk) -> SequenceRows:
        sequence, lease = chunk.sequence, chunk.sequence.lease
        assert lease is not None
        prompt = sequence.request.prompt
        stop = chunk.stop
        if chunk.start >= len(prompt):
            tokens: tuple[int, ...] = tuple(
                sequence.output_ids[chunk.start - len(prompt) : stop - len(prompt)]
            )
        else:
            tokens = (*prompt[chunk.start : stop], *sequence.output_ids[: max(0, stop - len(prompt))])
        keep = 1 if chunk.completes else 0
        if self._wants_prompt_logprobs(sequence):
            keep = chunk.length
        if self._runner.asynchronous:
            # A copy: the lease's own row of ids grows while the step is on its way.
            return SequenceRows(tokens, chunk.start, np.frombuffer(bytes(lease.packed_table), np.int32), keep)
        return SequenceRows(tokens, chunk.start, lease.block_table, keep)

    def _take_tokens(self, chunks: list[Chunk], rows: list[SequenceRows], logits: Tensor) -> None:
        """Sample for every chunk that completes its sequence and deal the tokens out."""
        chosen: list[int] = []
        sequences: list[Sequence] = []
        first = 0
        for chunk, part in zip(chunks, rows, strict=True):
            sequence = chunk.sequence
            usable = True
            if self._wants_prompt_logprobs(sequence):
                usable = self._note_prompt_logprobs(sequence, chunk, logits[first : first + part.keep])
            first += part.keep
            if usable and chunk.completes:
                for member in self._family(sequence):
                    chosen.append(first - 1)
                    sequences.append(member)
        if not sequences:
            return
        if chosen != list(range(len(logits))):
            logits = logits[to_device(np.asarray(chosen), logits.device)]
        tokens = sample(logits, [sequence.sampler for sequence in sequences])
        for sequence, token in zip(sequences, tokens, strict=True):
            if sequence.request.handle not in self._requests:
                continue  # a sibling's row was unusable
            if isinstance(token, SamplingError):
                self._fail_request(sequence.request, token)
            else:
                self._take(sequence, token)

    def _family(self, sequence: Sequence) -> list[Sequence]:
        """The sequence, and with it, where the prompt ends, as many new siblings as may run.

        One that may not waits like a new request and brings the others in its turn.
        """
        request = sequence.request
        family = [sequence]
        if sequence.output_ids or len(request.sequences) > sequence.index + 1:
            return family
        while len(request.sequences) < request.params.n:
            sibling = self._new_sequence(request)
            if self._scheduler.full:
                self._scheduler.add(sibling)
                break
            self._scheduler.start_sibling(sequence, sibling)
            family.append(sibling)
        return family

    def _new_sequence(self, request: Request) -> Sequence:
        index = len(request.sequences)
        params, tokenizer = request.params, self._model.tokenizer
        sampler = Sampler(params, request.prompt, self._model.eos_token_ids, index=index)
        text = None if tokenizer is None else TextStream(tokenizer, request.prompt, stop=params.stop)
        sequence = Sequence(request, index, sampler, text)
        request.sequences.append(sequence)
        return sequence

    def _take(self, sequence: Sequence, token: SampledToken) -> None:
        request = sequence.request
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
            request.handle.push(sequence.text.finish())
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
        untold, self._untold = self._untold, []
        for sequence, token in untold:
            assert sequence.text is not None
            piece = sequence.text.push(token)
            if sequence.index == 0:
                sequence.request.handle.push(piece)

    def _wants_prompt_logprobs(self, sequence: Sequence) -> bool:
        request = sequence.request
        return request.params.prompt_logprobs is not None and (
            request.prompt_logprobs is None or len(request.prompt_logprobs) < len(request.prompt)
        )

    def _note_prompt_logprobs(self, sequence: Sequence, chunk: Chunk, logits: Tensor) -> bool:
        """Keep what the chunk tells of its prompt; False if it cannot be told and the request has failed."""
        request = sequence.request
        wanted = request.params.prompt_logprobs
        assert wanted is not None
        if request.prompt_logprobs is None:
            request.prompt_logprobs = [None]
        known = len(request.prompt_logprobs)
        following = request.prompt[max(chunk.start + 1, known) : chunk.stop + 1]
        skipped = max(chunk.start + 1, known) - (chunk.start + 1)
        rows = logits[skipped : skipped + len(following)]
        try:
            request.prompt_logprobs.extend(prompt_logprobs(rows, following, wanted))
        except SamplingError as error:
            self._fail_request(request, error)
            return False
        return True

    def _end(self, request: Request) -> None:
        self._tell_text()
        for sequence in request.sequences:
            self._scheduler.remove(sequence)
        del self._requests[request.handle]
        request.handle.finish(request.result())

    def _fail(self, chunks: list[Chunk], error: Exception) -> None:
        """Fail the requests of the step, or, if none was scheduled, the one that came first."""
        failed = {chunk.sequence.request for chunk in chunks}
        if not failed and self._scheduler.waiting:
            failed = {self._scheduler.waiting[0].request}
        for request in failed:
            self._fail_request(request, error)

    def _fail_request(self, request: Request, error: Exception) -> None:
        self._untold = [item for item in self._untold if item[0].request is not request]
        for sequence in request.sequences:
            self._scheduler.remove(sequence)
        self._requests.pop(request.handle, None)
        if not request.handle.done:
            request.handle.fail(error)
