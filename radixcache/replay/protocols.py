"""What a replay needs of an engine, so that tests and other engines can stand in for ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from radixcache.engine.params import SamplingParams
    from radixcache.engine.result import Completion

__all__ = ["EngineFactory", "EngineLike", "HandleLike", "ResultLike", "StatsLike"]


class ResultLike(Protocol):
    """What one request gave. Times are in seconds from its submission."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def misses(self) -> Mapping[str, int]: ...
    @property
    def diverged_at(self) -> int | None: ...
    @property
    def ttft(self) -> float: ...
    @property
    def queue_time(self) -> float: ...
    @property
    def latency(self) -> float: ...
    @property
    def token_ids(self) -> Sequence[int]: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def completions(self) -> Sequence[Completion]: ...


class HandleLike(Protocol):
    """A submitted request."""

    def result(self) -> ResultLike: ...
    def abort(self) -> None: ...


class StatsLike(Protocol):
    """Totals of an engine since it was made; `control_s` and `step_s` are seconds.

    `batch_invariant` says that outputs depend neither on what else runs nor on what was cached, `variance`
    why they may.
    """

    @property
    def prefill_tokens(self) -> int: ...
    @property
    def decode_tokens(self) -> int: ...
    @property
    def step_s(self) -> float: ...
    @property
    def control_s(self) -> float: ...
    @property
    def block_waste(self) -> float: ...
    @property
    def preemptions(self) -> int: ...
    @property
    def batch_invariant(self) -> bool: ...
    @property
    def variance(self) -> str: ...


class EngineLike(Protocol):
    """An engine that takes token ids and may be submitted to from any thread."""

    def submit(self, prompt: Sequence[int], params: SamplingParams, *, namespace: str = "") -> HandleLike: ...
    def stats(self) -> StatsLike: ...
    def close(self) -> None: ...


EngineFactory = Callable[[bool], EngineLike]
"""Makes a fresh engine, with the prefix cache on (True) or off (False)."""
