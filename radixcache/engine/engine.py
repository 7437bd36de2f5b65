"""The engine: one thread that schedules, computes, samples and streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from itertools import count
from typing import Any, NoReturn, Unpack
from weakref import finalize

import torch

from radixcache.cache.events import EventCallback
from radixcache.cache.eviction import PIN_PRIORITY, Pin, Retention
from radixcache.cache.namespaces import Namespace, check_namespace
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.backends import make_backend
from radixcache.engine.cache_view import CacheView
from radixcache.engine.chat import ChatSession
from radixcache.engine.config import EngineConfig
from radixcache.engine.cuda.recorder import CudaRecorder, Recorder
from radixcache.engine.event_feed import EventFeed
from radixcache.engine.handle import RequestHandle
from radixcache.engine.local_executor import LocalExecutor
from radixcache.engine.loop import StepLoop
from radixcache.engine.options import RequestOptions, check_retain, check_timeout
from radixcache.engine.owner import RequestOwner
from radixcache.engine.params import SamplingParams
from radixcache.engine.promise import check_promise
from radixcache.engine.prompt import Prompt, prompt_ids, several_prompts
from radixcache.engine.queue_limit import QueueLimit
from radixcache.engine.request import Request
from radixcache.engine.result import GenerationResult
from radixcache.engine.runner import ModelRunner
from radixcache.engine.sizing import make_pool
from radixcache.engine.stats import EngineStats
from radixcache.engine.streams import AsyncTextIterator, TextIterator
from radixcache.engine.thread import EngineThread
from radixcache.errors import PromptTooLongError
from radixcache.models import LoadedModel, load_model
from radixcache.ranges import check_int
from radixcache.tokens import TOKEN_BYTES, PackedTokens


class Engine:
    """Generates text with one model, reusing the KV of every prefix it has seen.

    Methods may be called from any thread; the work is done on one thread that the engine
    starts. Use as a context manager, or call `close`.

    Attributes:
        config: the settings.
        model: the model as the engine computes it.
        cache: what the cache holds, to look at.
    """

    def __init__(
        self,
        model: LoadedModel,
        config: EngineConfig | None = None,
        *,
        on_event: EventCallback | None = None,
    ) -> None:
        """Allocate the KV pool, try the model on it and start the thread.

        Args:
            model: of `load_model`, or of `LoadedModel.of` for a transformers model in memory.
            config: settings; the defaults if None.
            on_event: called with what the cache stores and removes, in order, on a separate thread that no
                step waits for; what it raises is logged. With None no event is made.

        Raises:
            TypeError: `model` is something else.
            ModelError: the model would not be served right; names it and the reason.
            ValueError: the cache is smaller than one block or larger than memory, or `on_event` cannot be
                called.
        """
        if not isinstance(model, LoadedModel):
            raise TypeError(
                f"model must be a LoadedModel, got {type(model).__name__}; load_model(name) makes one, "
                "and LoadedModel.of(model, tokenizer) does of a transformers model"
            )
        if config is not None and not isinstance(config, EngineConfig):
            raise TypeError(f"config must be an EngineConfig, got {config!r}")
        self.config = config or EngineConfig()
        # Whatever device or autocast the caller has set.
        with model.device, torch.autocast(model.device.type, enabled=False):
            pool = make_pool(model, self.config)
            runner = ModelRunner(
                model,
                pool,
                make_backend(pool, self.config.backend),
                recorder=_recorder(self.config, model.device),
                max_lines=self.config.max_running,
                invariant=self.config.invariant,
            )
        check_promise(runner, model, self.config.invariant)
        feed = None if on_event is None else EventFeed(on_event)
        self._cache = PrefixCache(
            pool.num_blocks,
            self.config.block_size,
            policy=self.config.policy,
            enabled=self.config.cache,
            explain=self.config.explain,
            on_event=None if feed is None else feed.put,
        )
        # The engine's copy: the plain weights are freed when the caller drops them.
        self.model = replace(model, model=runner.model)
        self._limit = QueueLimit(self.config.max_waiting, self.config.max_running)
        executor = LocalExecutor(runner)
        self._loop = StepLoop(self._cache, executor, self.model, self.config, limit=self._limit)
        self._names = count()
        self._thread = EngineThread(self._loop, model.device, feed)
        self.cache = CacheView(self._cache, self._thread)
        # An engine that is never closed is freed all the same.
        self._finalizer = finalize(self, self._thread.stop)
        self._finalizer.atexit = False  # threads are joined then

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        notify: Callable[[str], None] = lambda _line: None,
        on_event: EventCallback | None = None,
        **config: Any,
    ) -> Engine:
        """An engine for a model by name, folder or GGUF file.

        Args:
            name_or_path: the embedded default ("smollm2-135m"), a local folder or GGUF file,
                or a hub name.
            device: "auto", "cpu" or "cuda".
            dtype: "auto", "float32", "bfloat16" or "float16".
            notify: called with a line of text before each step that takes long.
            on_event: as for `Engine`.
            config: fields of `EngineConfig`.

        Raises:
            ModelError: the model cannot be found, loaded or served.
            ValueError, TypeError: a setting is out of range or unknown; found before the model is loaded.
        """
        settings = EngineConfig(**config)
        model = load_model(name_or_path, device=device, dtype=dtype, notify=notify)
        return cls(model, settings, on_event=on_event)

    @property
    def capacity_tokens(self) -> int:
        """Tokens of KV that the pool holds."""
        return self._cache.num_blocks * self._cache.block_size

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        namespace: Namespace = "",
        retain: SequenceOf[Retention] = (),
        priority: int = 0,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> RequestHandle:
        """Queue a request and return at once.

        Args:
            prompt: text, or token ids (bytes are packed ones, 4 bytes each; see `radixcache.tokens.pack`).
            params: greedy with 128 new tokens by default.
            namespace: requests share KV only within a namespace (a tenant, say); str or bytes.
            retain: how long to keep ranges of the prompt, in whole blocks, once it is computed.
            priority: among waiting requests the highest runs first, with a bound on how often others are
                overtaken (`EngineConfig.max_passes`); when blocks run out the lowest gives up its own first.
            timeout: seconds from now, waiting included, after which the request ends as it is, with "timeout"
                as the finish reason of what is not finished; None for no limit.
            request_id: a name for the request; made up by default.

        Raises:
            PromptTooLongError: prompt and new tokens exceed the model's context or the cache.
            TokenError, ValueError: the prompt is empty or holds an impossible token id, or another argument
                is out of range or of the wrong type.
            EngineOverloadedError: `EngineConfig.max_waiting` requests wait already.
            EngineClosedError, EngineDeadError, EngineForkedError: no request is taken any more, or here.
        """
        self._thread.check()
        if params is None:
            params = SamplingParams()
        elif not isinstance(params, SamplingParams):
            raise ValueError(f"params must be SamplingParams, got {params!r}")
        check_namespace(namespace)
        ranges, priority = check_retain(retain), check_int("priority", priority)
        timeout = check_timeout(timeout)
        self._check_biases(params)
        ids = self._ids(prompt)
        self._check_length(len(ids) // TOKEN_BYTES + params.max_tokens)
        owner = RequestOwner(self, self._thread, self._loop, self._limit)
        try:
            handle = RequestHandle(request_id or f"request-{next(self._names)}", owner)
            request = Request(handle, ids, params, namespace, ranges, priority, timeout)
            request.new_sequence(self.model)
            loop = self._loop
            self._thread.tell(lambda: loop.add(request), lambda error: loop.fail(handle, error))
        except BaseException:
            owner.left_queue()
            raise
        return handle

    def generate(
        self,
        prompts: Prompt | Iterable[Prompt],
        params: SamplingParams | None = None,
        **options: Unpack[RequestOptions],
    ) -> list[GenerationResult]:
        """Generate for one prompt or several together; results in the order of the prompts.

        If one fails, or Ctrl-C comes while waiting, the others are aborted.

        Args:
            prompts: as for `submit`, one or several.
            params: as for `submit`.
            options: `namespace`, `retain`, `priority` and `timeout`, as for `submit`.

        Raises:
            RequestFailedError: a request failed; and what `submit` raises.
        """
        handles = self._submit_all(prompts, params, options)
        try:
            return [handle.result() for handle in handles]
        finally:
            for handle in handles:
                handle.abort()

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **options: Unpack[RequestOptions]
    ) -> TextIterator:
        """Pieces of text as they are generated; closing or dropping the iterator aborts the request.

        Args and errors are those of `submit`; `RequestHandle.events` gives more than text.
        """
        return TextIterator(self.submit(prompt, params, **options))

    async def agenerate(
        self,
        prompts: Prompt | Iterable[Prompt],
        params: SamplingParams | None = None,
        **options: Unpack[RequestOptions],
    ) -> list[GenerationResult]:
        """`generate` for an event loop; cancelling it aborts the requests."""
        handles = self._submit_all(prompts, params, options)
        try:
            return list(await asyncio.gather(*(handle.wait() for handle in handles)))
        finally:
            for handle in handles:
                handle.abort()

    def astream(
        self, prompt: Prompt, params: SamplingParams | None = None, **options: Unpack[RequestOptions]
    ) -> AsyncTextIterator:
        """`stream` for an event loop."""
        return AsyncTextIterator(self.submit(prompt, params, **options))

    def chat(
        self,
        system: str | None = None,
        *,
        tools: SequenceOf[dict[str, Any]] | None = None,
        params: SamplingParams | None = None,
        **options: Unpack[RequestOptions],
    ) -> ChatSession:
        """A conversation that only ever appends, so that every turn reuses all earlier ones.

        Args:
            system: system message, if any.
            tools: JSON objects that describe functions.
            params: as for `submit`, for every turn that names none.
            options: `namespace`, `retain`, `priority` and `timeout` of every turn, as for `submit`.
        """
        return ChatSession(self, system=system, tools=tools, params=params, **options)

    def pin(self, prompt: Prompt, *, namespace: Namespace = "", ttl: float | None = None) -> Pin:
        """Keep what is cached of a prompt, in whole blocks, before all that is not pinned.

        What is not cached yet is not covered: `num_tokens` of the pin says how much is. Under pressure pinned
        blocks are evicted last.

        Args:
            prompt: text or token ids, as for `submit`.
            namespace: the one that the prompt was computed in.
            ttl: seconds after which the pin ends by itself, and its blocks are evicted first; None for never.

        Raises:
            TokenError, ValueError: a bad prompt, namespace or `ttl`.
            EngineClosedError, EngineDeadError, EngineForkedError: as for `submit`.
        """
        ids, ranges = self._ids(prompt), (Retention(priority=PIN_PRIORITY, ttl=ttl),)
        return self._thread.ask(lambda: self._cache.retain(ids, ranges, namespace)[0])

    def unpin(self, pin: Pin) -> None:
        """Take a pin off; one that has ended is harmless.

        Raises:
            ValueError: it is no pin, or another engine's.
        """
        self._thread.ask(lambda: self._cache.unpin(pin))

    def stats(self) -> EngineStats:
        """A consistent snapshot of the counters."""
        return self._thread.ask(self._loop.stats)

    def reset_cache(self) -> None:
        """Forget every cached prefix.

        Raises:
            CacheInUseError: requests are running.
        """
        self._thread.ask(self._cache.reset)

    def close(self) -> None:
        """Abort what runs, stop the thread and free the pool.

        May be called again, from any thread and from a callback; harmless in a forked child.
        """
        self._finalizer.detach()
        self._thread.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine cannot be copied or pickled: it owns a thread and a KV pool")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit_all(
        self, prompts: Prompt | Iterable[Prompt], params: SamplingParams | None, options: RequestOptions
    ) -> list[RequestHandle]:
        handles: list[RequestHandle] = []
        try:
            for prompt in several_prompts(prompts):
                handles.append(self.submit(prompt, params, **options))
        except BaseException:
            for handle in handles:
                handle.abort()
            raise
        return handles

    def _ids(self, prompt: Prompt) -> PackedTokens:
        return prompt_ids(prompt, self.model, self._loop.vocab_size)

    def _check_biases(self, params: SamplingParams) -> None:
        vocabulary = self._loop.vocab_size
        for token in dict(params.logit_bias):
            if token >= vocabulary:
                raise ValueError(f"logit_bias has token {token}, the vocabulary has {vocabulary} tokens")

    def _check_length(self, tokens: int) -> None:
        if tokens > self.model.max_context:
            raise PromptTooLongError(tokens, self.model.max_context, "the model's context")
        if tokens > self.capacity_tokens:
            raise PromptTooLongError(tokens, self.capacity_tokens, "the cache")


def _recorder(config: EngineConfig, device: torch.device) -> Recorder | None:
    return CudaRecorder(device) if config.graphs and device.type == "cuda" else None
