"""The engine: one thread that schedules, computes, samples and streams."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future
from itertools import count
from threading import Condition, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from radixcache.cache import PrefixCache
from radixcache.engine.backends import make_backend
from radixcache.engine.config import EngineConfig
from radixcache.engine.cuda.recorder import CudaRecorder, Recorder
from radixcache.engine.handle import RequestHandle
from radixcache.engine.loop import StepLoop
from radixcache.engine.params import SamplingParams
from radixcache.engine.request import Request
from radixcache.engine.result import GenerationResult
from radixcache.engine.runner import ModelRunner
from radixcache.engine.self_check import check_model, try_model
from radixcache.engine.stats import EngineStats
from radixcache.errors import PromptTooLongError, RadixCacheError
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.models import LoadedModel, load_model
from radixcache.tokens import pack

if TYPE_CHECKING:
    from radixcache.chat import ChatSession

T = TypeVar("T")
Prompt = str | SequenceOf[int]

# Part of a step's time that is given to callers for coming back after a request has ended.
_PATIENCE = 0.05


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
            ValueError: the cache is smaller than one block.
        """
        if not isinstance(model, LoadedModel):
            raise TypeError(
                f"model must be a LoadedModel, got {type(model).__name__}; load_model(name) makes one, "
                "and LoadedModel.of(model, tokenizer) does of a transformers model"
            )
        self.model = model
        self.config = config or EngineConfig()
        layout = KVLayout.of(model.model.config, self.config.block_size, model.dtype, self.config.kv_dtype)
        num_blocks = _num_blocks(layout, self.config, model.device)
        pool = PagedPool(layout, num_blocks, model.device)
        self._cache = PrefixCache(
            num_blocks,
            self.config.block_size,
            policy=self.config.policy,
            enabled=self.config.cache,
            explain=self.config.explain,
        )
        trial = try_model(model)
        runner = ModelRunner(
            model,
            pool,
            make_backend(pool, self.config.backend),
            recorder=_recorder(self.config, model.device),
            max_lines=self.config.max_running,
        )
        check_model(model, runner.try_step, trial)
        self._loop = StepLoop(self._cache, runner, model, self.config)
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = Condition()
        self._closed = False
        self._names = count()
        self._thread = Thread(target=self._run, name="radixcache-engine", daemon=True)
        self._thread.start()

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
        """
        model = load_model(name_or_path, device=device, dtype=dtype, notify=notify)
        return cls(model, EngineConfig(**config))

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
            prompt: text, or token ids.
            params: greedy with 128 new tokens by default.
            namespace: requests share KV only within a namespace (a tenant, say).
            request_id: a name for the request; made up by default.

        Raises:
            PromptTooLongError: prompt and new tokens exceed the model's context or the cache.
            TokenError, ValueError: the prompt is empty or holds an impossible token id.
        """
        params = params or SamplingParams()
        ids = self._ids(prompt)
        self._check_length(len(ids) + params.max_tokens)
        handle = RequestHandle(request_id or f"request-{next(self._names)}", self._abort)
        request = Request(handle, ids, params, namespace)
        self._tell(lambda: self._loop.add(request))
        return handle

    def generate(
        self,
        prompts: Prompt | SequenceOf[Prompt],
        params: SamplingParams | None = None,
        *,
        namespace: str = "",
    ) -> list[GenerationResult]:
        """Generate for one prompt or several together; results in the order of the prompts."""
        return [handle.result() for handle in self._submit_all(prompts, params, namespace)]

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, namespace: str = ""
    ) -> Generator[str]:
        """Pieces of text as they are generated; leaving the loop early aborts the request."""
        return _pieces(self.submit(prompt, params, namespace=namespace))

    async def agenerate(
        self,
        prompts: Prompt | SequenceOf[Prompt],
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
    ) -> AsyncGenerator[str]:
        """`stream` for an event loop."""
        return _apieces(self.submit(prompt, params, namespace=namespace))

    def chat(
        self,
        system: str | None = None,
        *,
        tools: SequenceOf[dict[str, Any]] | None = None,
        params: SamplingParams | None = None,
        namespace: str = "",
    ) -> ChatSession:
        """A conversation that only ever appends, so that every turn reuses all earlier ones."""
        from radixcache.chat import ChatSession

        return ChatSession(self, system=system, tools=tools, params=params, namespace=namespace)

    def stats(self) -> EngineStats:
        """A consistent snapshot of the counters."""
        return self._ask(self._loop.stats)

    def reset_cache(self) -> None:
        """Forget every cached prefix.

        Raises:
            CacheInUseError: requests are running.
        """
        self._ask(self._cache.reset)

    def close(self) -> None:
        """Abort what runs, stop the thread and free the pool. Idempotent."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit_all(
        self, prompts: Prompt | SequenceOf[Prompt], params: SamplingParams | None, namespace: str
    ) -> list[RequestHandle]:
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
            try:
                prompt = self.model.tokenizer.encode(prompt, add_special_tokens=False)
            except TypeError as error:
                raise ValueError(f"the prompt is not text that can be encoded: {prompt[:40]!r}") from error
        pack(prompt)
        ids = tuple(int(token) for token in prompt)
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

    def _abort(self, handle: RequestHandle) -> None:
        with self._wake:
            if self._closed:
                return
            self._commands.append(lambda: self._loop.abort(handle))
            self._wake.notify()

    def _tell(self, command: Callable[[], None]) -> None:
        with self._wake:
            if self._closed:
                raise RadixCacheError("the engine is closed")
            self._commands.append(command)
            self._wake.notify()

    def _ask(self, question: Callable[[], T]) -> T:
        """Answer from the engine's thread, between two steps."""
        answer: Future[T] = Future()

        def reply() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # the asker's to handle: this thread must go on
                answer.set_exception(error)

        self._tell(reply)
        return answer.result()

    def _run(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.set_device(self.model.device)  # a thread starts on the first device
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._commands or self._closed or self._loop.has_work)
                commands, self._commands = self._commands, deque()
                closed = self._closed
            for command in commands:
                command()
            if closed:
                self._loop.abort_all()
                return
            if self._loop.has_work:
                started = perf_counter()
                ended = self._loop.step()
                if ended:
                    self._regroup(ended, _PATIENCE * (perf_counter() - started))

    def _regroup(self, expected: int, patience: float) -> None:
        """Let callers whose requests have ended submit their next ones, so that these share a step.

        One step with several short prefills takes much less time than a step for each. The wait
        is over when as many commands have come as requests have ended, when nobody has come for
        a quarter of `patience`, and in any case after `patience` seconds.
        """
        deadline = perf_counter() + patience
        with self._wake:
            while (known := len(self._commands)) < expected and (left := deadline - perf_counter()) > 0:
                self._wake.wait(min(left, patience / 4))
                if len(self._commands) == known:
                    return


def _pieces(handle: RequestHandle) -> Generator[str]:
    try:
        yield from handle
    finally:
        handle.abort()


async def _apieces(handle: RequestHandle) -> AsyncGenerator[str]:
    try:
        async for piece in handle:
            yield piece
    finally:
        handle.abort()


def _is_single(prompts: Prompt | SequenceOf[Prompt]) -> bool:
    return isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int))


def _recorder(config: EngineConfig, device: torch.device) -> Recorder | None:
    return CudaRecorder(device) if config.graphs and device.type == "cuda" else None


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
