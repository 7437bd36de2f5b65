"""The engine: one thread that schedules, computes, samples and streams."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from itertools import count
from numbers import Integral
from typing import Any, NoReturn
from weakref import finalize

import torch

from radixcache.cache.namespaces import check_namespace
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.engine.backends import make_backend
from radixcache.engine.chat import ChatSession
from radixcache.engine.config import EngineConfig
from radixcache.engine.cuda.recorder import CudaRecorder, Recorder
from radixcache.engine.handle import RequestHandle
from radixcache.engine.loop import StepLoop
from radixcache.engine.owner import RequestOwner
from radixcache.engine.params import SamplingParams
from radixcache.engine.promise import check_promise
from radixcache.engine.request import Request
from radixcache.engine.result import GenerationResult
from radixcache.engine.runner import ModelRunner
from radixcache.engine.stats import EngineStats
from radixcache.engine.streams import AsyncTextIterator, TextIterator
from radixcache.engine.thread import EngineThread
from radixcache.errors import PromptTooLongError, RadixCacheError
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.models import LoadedModel, load_model
from radixcache.prompts import encode_text
from radixcache.tokens import pack, unpack

Prompt = str | SequenceOf[int]


class Engine:
    """Generates text with one model, reusing the KV of every prefix it has seen.

    Methods may be called from any thread; the work is done on one thread of the engine's
    own. Use as a context manager, or call `close`.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        """Allocate the KV pool, try the model on it and start the thread.

        Args:
            model: of `load_model`, or of `LoadedModel.of` for a transformers model in memory.
            config: settings; the defaults if None.

        Raises:
            TypeError: `model` is something else.
            ModelError: the model would not be served right; names it and the reason.
            ValueError: the cache is smaller than one block or larger than memory.
        """
        if not isinstance(model, LoadedModel):
            raise TypeError(
                f"model must be a LoadedModel, got {type(model).__name__}; load_model(name) makes one, "
                "and LoadedModel.of(model, tokenizer) does of a transformers model"
            )
        if config is not None and not isinstance(config, EngineConfig):
            raise TypeError(f"config must be an EngineConfig, got {config!r}")
        self.config = config or EngineConfig()
        # Whatever device or autocast the caller has set for work of its own.
        with model.device, torch.autocast(model.device.type, enabled=False):
            pool = _pool(model, self.config)
            runner = ModelRunner(
                model,
                pool,
                make_backend(pool, self.config.backend),
                recorder=_recorder(self.config, model.device),
                max_lines=self.config.max_running,
                invariant=self.config.invariant,
            )
        self._cache = PrefixCache(
            pool.num_blocks,
            self.config.block_size,
            policy=self.config.policy,
            enabled=self.config.cache,
            explain=self.config.explain,
        )
        check_promise(runner, model, self.config.invariant)
        # The engine's own copy: the plain weights go when whoever loaded them lets them go.
        self.model = replace(model, model=runner.model)
        self._loop = StepLoop(self._cache, runner, self.model, self.config)
        self._names = count()
        self._thread = EngineThread(self._loop, model.device)
        # Whoever forgets to close an engine gets its memory back all the same.
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
        **config: Any,
    ) -> Engine:
        """An engine for a model by name, folder or GGUF file.

        Args:
            name_or_path: the embedded default ("smollm2-135m"), a local folder or GGUF file,
                or a hub name.
            device: "auto", "cpu" or "cuda".
            dtype: "auto", "float32", "bfloat16" or "float16".
            notify: called with a line of text before each step that takes long.
            config: fields of `EngineConfig`.

        Raises:
            ModelError: the model cannot be found, loaded or served.
            ValueError, TypeError: a setting is out of range or unknown; found before the model is loaded.
        """
        settings = EngineConfig(**config)
        model = load_model(name_or_path, device=device, dtype=dtype, notify=notify)
        return cls(model, settings)

    @property
    def capacity_tokens(self) -> int:
        """Tokens of KV that the pool holds."""
        return self._cache.num_blocks * self._cache.block_size

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        namespace: str = "",
        request_id: str | None = None,
    ) -> RequestHandle:
        """Queue a request and return at once.

        Args:
            prompt: text, or token ids (bytes are packed ones, 4 bytes each; see `radixcache.tokens.pack`).
            params: greedy with 128 new tokens by default.
            namespace: requests share KV only within a namespace (a tenant, say); str or bytes.
            request_id: a name for the request; made up by default.

        Raises:
            PromptTooLongError: prompt and new tokens exceed the model's context or the cache.
            TokenError, ValueError: the prompt is empty or holds an impossible token id, or `params` or
                `namespace` is of the wrong type.
            EngineClosedError, EngineDeadError, EngineForkedError: no request is taken any more, or here.
        """
        self._thread.check()
        if params is None:
            params = SamplingParams()
        elif not isinstance(params, SamplingParams):
            raise ValueError(f"params must be SamplingParams, got {params!r}")
        check_namespace(namespace)
        ids = self._ids(prompt)
        self._check_length(len(ids) + params.max_tokens)
        owner = RequestOwner(self, self._thread, self._loop)
        handle = RequestHandle(request_id or f"request-{next(self._names)}", owner)
        request = Request(handle, ids, params, namespace)
        request.new_sequence(self.model)
        loop = self._loop
        self._thread.tell(lambda: loop.add(request), lambda error: loop.fail(handle, error))
        return handle

    def generate(
        self,
        prompts: Prompt | Iterable[Prompt],
        params: SamplingParams | None = None,
        *,
        namespace: str = "",
    ) -> list[GenerationResult]:
        """Generate for one prompt or several together; results in the order of the prompts.

        If one fails, or Ctrl-C comes while waiting, the others are aborted.

        Raises:
            RequestFailedError: a request failed; and what `submit` raises.
        """
        handles = self._submit_all(prompts, params, namespace)
        try:
            return [handle.result() for handle in handles]
        finally:
            for handle in handles:
                handle.abort()

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, namespace: str = ""
    ) -> TextIterator:
        """Pieces of text as they are generated; closing or dropping the iterator aborts the request."""
        return TextIterator(self.submit(prompt, params, namespace=namespace))

    async def agenerate(
        self,
        prompts: Prompt | Iterable[Prompt],
        params: SamplingParams | None = None,
        *,
        namespace: str = "",
    ) -> list[GenerationResult]:
        """`generate` for an event loop; cancelling it aborts the requests."""
        handles = self._submit_all(prompts, params, namespace)
        try:
            return list(await asyncio.gather(*(handle.wait() for handle in handles)))
        finally:
            for handle in handles:
                handle.abort()

    def astream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, namespace: str = ""
    ) -> AsyncTextIterator:
        """`stream` for an event loop."""
        return AsyncTextIterator(self.submit(prompt, params, namespace=namespace))

    def chat(
        self,
        system: str | None = None,
        *,
        tools: SequenceOf[dict[str, Any]] | None = None,
        params: SamplingParams | None = None,
        namespace: str = "",
    ) -> ChatSession:
        """A conversation that only ever appends, so that every turn reuses all earlier ones."""
        return ChatSession(self, system=system, tools=tools, params=params, namespace=namespace)

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
        raise TypeError("an engine cannot be copied or pickled: its thread and its KV pool are its own")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit_all(
        self, prompts: Prompt | Iterable[Prompt], params: SamplingParams | None, namespace: str
    ) -> list[RequestHandle]:
        if isinstance(prompts, Iterator):
            prompts = list(prompts)
        many = [prompts] if _is_single(prompts) else prompts
        handles: list[RequestHandle] = []
        try:
            for prompt in many:
                handles.append(self.submit(prompt, params, namespace=namespace))  # type: ignore[arg-type]
        except BaseException:
            for handle in handles:
                handle.abort()
            raise
        return handles

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, str):
            if self.model.tokenizer is None:
                raise RadixCacheError(f"{self.model.name} has no tokenizer: give token ids, not text")
            prompt = encode_text(self.model.tokenizer, prompt)
        ids = tuple(unpack(pack(prompt)))
        if not ids:
            raise ValueError("the prompt is empty")
        vocabulary = self._loop.vocab_size
        if max(ids) >= vocabulary:
            place = next(i for i, token in enumerate(ids) if token >= vocabulary)
            raise ValueError(
                f"token {ids[place]} at position {place} is outside the vocabulary of {vocabulary}"
            )
        return ids

    def _check_length(self, tokens: int) -> None:
        if tokens > self.model.max_context:
            raise PromptTooLongError(tokens, self.model.max_context, "the model's context")
        if tokens > self.capacity_tokens:
            raise PromptTooLongError(tokens, self.capacity_tokens, "the cache")


def _is_single(prompts: Any) -> bool:
    """One prompt: text, packed tokens, or token ids in a row; not a sequence of prompts."""
    if isinstance(prompts, str | bytes | bytearray | memoryview | array | range):
        return True
    dimensions = getattr(prompts, "ndim", None)
    if dimensions is not None:  # of a numpy array or a tensor
        return bool(dimensions == 1)
    first = next(iter(prompts), None)
    return isinstance(first, Integral) or getattr(first, "ndim", None) == 0


def _recorder(config: EngineConfig, device: torch.device) -> Recorder | None:
    return CudaRecorder(device) if config.graphs and device.type == "cuda" else None


def _pool(model: LoadedModel, config: EngineConfig) -> PagedPool:
    layout = KVLayout.of(model.model.config, config.block_size, model.dtype, config.kv_dtype)
    num_blocks = _num_blocks(layout, config, model.device)
    try:
        return PagedPool(layout, num_blocks, model.device)
    except (MemoryError, torch.OutOfMemoryError) as error:
        size = num_blocks * layout.bytes_per_block / (1 << 30)
        raise ValueError(
            f"the cache of {num_blocks} blocks, {size:.1f} GiB, does not fit in the memory of {model.device}"
        ) from error


def _num_blocks(layout: KVLayout, config: EngineConfig, device: torch.device) -> int:
    if config.cache_tokens is not None:
        num_blocks = config.cache_tokens // config.block_size
    else:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        num_blocks = layout.blocks_in(config.cache_bytes(free))
    if num_blocks < 1:
        block = f"{config.block_size} tokens, {layout.bytes_per_block} bytes"
        raise ValueError(f"the cache is smaller than one block of {block}")
    return num_blocks
