"""What a log is replayed on: a model, and engines made around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from radixcache.errors import InvarianceWarning
from radixcache.replay.protocols import EngineFactory, EngineLike
from radixcache.replay.room import allocating, check_room

__all__ = ["ReplayTarget", "load_target"]

_INVARIANT: dict[str, bool | Literal["auto"]] = {"auto": "auto", "on": True, "off": False}


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """A model to replay on.

    Attributes:
        model, dtype, device, block_size, cache_tokens, kv_dtype, invariant: as in `ReplayReport`.
        tokenizer: a transformers tokenizer, or None if the model has none.
        make_engine: makes engines around the one loaded model; one is closed before the next is made.
    """

    model: str
    dtype: str
    device: str
    block_size: int
    cache_tokens: int | None
    tokenizer: Any
    make_engine: EngineFactory
    kv_dtype: str = "auto"
    invariant: str = "auto"


def load_target(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    block_size: int = 16,
    cache_tokens: int | None = None,
    cache_memory: int | None = None,
    kv_dtype: str = "auto",
    invariant: str = "auto",
    concurrency: int = 1,
    notify: Callable[[str], None] = lambda _: None,
) -> ReplayTarget:
    """Load a model once, for engines with the cache off and on.

    Args:
        name, device, dtype, notify: as for `radixcache.models.load_model`.
        block_size, cache_tokens, cache_memory, kv_dtype: as for `EngineConfig`.
        invariant: `auto`, `on` or `off`: `EngineConfig.invariant`.
        concurrency: requests that will be in flight; the engine runs at least this number of sequences.

    Raises:
        ModelError: if the model cannot be found, loaded or served.
        ValueError: if a setting is out of range, or the cache larger than the device's memory.
    """
    from radixcache.engine import Engine, EngineConfig
    from radixcache.kv.layout import KVLayout
    from radixcache.models import load_model
    from radixcache.models.dtypes import choose_device

    config = EngineConfig(
        block_size=block_size,
        cache_tokens=cache_tokens,
        cache_memory=cache_memory,
        kv_dtype=kv_dtype,
        invariant=_INVARIANT[invariant],
    )
    config = replace(config, max_running=max(config.max_running, concurrency))
    check_room(choose_device(device), cache_tokens=cache_tokens, cache_memory=cache_memory)
    loaded = load_model(name, device=device, dtype=dtype, notify=notify)
    if cache_tokens is not None:
        layout = KVLayout.of(loaded.model.config, block_size, loaded.dtype, kv_dtype)
        check_room(loaded.device, cache_tokens=cache_tokens, bytes_per_token=layout.bytes_per_token)

    def make_engine(cache: bool) -> EngineLike:
        with allocating(loaded.device), warnings.catch_warnings():
            warnings.simplefilter("ignore", InvarianceWarning)  # a replay's report says it
            return Engine(loaded, replace(config, cache=cache))

    return ReplayTarget(
        model=name,
        dtype=str(loaded.dtype).removeprefix("torch."),
        device=str(loaded.device),
        block_size=block_size,
        cache_tokens=cache_tokens,
        tokenizer=loaded.tokenizer,
        make_engine=make_engine,
        kv_dtype=kv_dtype,
        invariant=invariant,
    )
