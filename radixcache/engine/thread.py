"""The engine's thread: takes commands from any thread, and steps while there is work."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple, TypeVar
from weakref import WeakSet

import torch

from radixcache.engine.callbacks import CallbackRunner
from radixcache.engine.event_feed import EventFeed
from radixcache.engine.loop import StepLoop
from radixcache.errors import (
    EngineClosedError,
    EngineDeadError,
    EngineForkedError,
    RadixCacheError,
    describe,
)

T = TypeVar("T")

_logger = logging.getLogger("radixcache.engine")

# Part of a step's time that is given to callers for coming back after a request has ended.
_PATIENCE = 0.05
# How long a thread that can compute nothing waits for blocks that drain before it looks again.
_STALL_S = 0.01
# How long the end of an engine waits for its listener, and the end of the process for callbacks.
_EXIT_PATIENCE_S = 2.0


class _Command(NamedTuple):
    """Something to do between two steps, and what to call if it cannot be done."""

    run: Callable[[], None]
    fail: Callable[[BaseException], None]


class EngineThread:
    """A thread that owns a `StepLoop`.

    It ends by `close`, or by an error that nothing else has dealt with. Either way every waiting caller is
    told, later calls are refused, and what the loop holds is freed. It does not refer to its engine,
    so that an engine that nobody uses any more can be collected.

    Attributes:
        callbacks: where callers' callbacks run.
    """

    def __init__(self, loop: StepLoop, device: torch.device, feed: EventFeed | None = None) -> None:
        """Start the thread; it computes on `device`, and closes `feed` at its end."""
        self.callbacks = CallbackRunner()
        self._loop = loop
        self._feed = feed
        self._device = device
        self._commands: deque[_Command] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._pid = os.getpid()
        loop.on_loaded(self._notify)
        self._thread = threading.Thread(target=self._run, name="radixcache-engine", daemon=True)
        if feed is not None:
            feed.start()
        self._thread.start()
        _running.add(self)

    def is_alive(self) -> bool:
        """The thread has not ended."""
        return self._thread.is_alive()

    @property
    def forked(self) -> bool:
        """This is a child process, forked from the one that the thread lives in."""
        return os.getpid() != self._pid

    @property
    def is_current(self) -> bool:
        """The caller runs on this thread."""
        return threading.current_thread() is self._thread

    def check(self) -> None:
        """Raise unless commands are taken.

        Raises:
            EngineForkedError: called in a forked child process.
            EngineDeadError: the thread has ended by an error.
            EngineClosedError: `close` was called.
        """
        self.check_process()
        if self._error is not None:
            raise _dead(self._error)
        if self._closed:
            raise EngineClosedError("the engine is closed")

    def check_process(self) -> None:
        """Raise EngineForkedError in a forked child process."""
        if self.forked:
            raise EngineForkedError(
                f"the engine belongs to process {self._pid}, and process {os.getpid()} was forked from it: "
                "make another engine after the fork"
            )

    def check_waiting(self) -> None:
        """Raise if a caller that waits here for the thread to do something would wait for ever."""
        self.check_process()
        if self.is_current:
            raise RadixCacheError("the engine's own thread cannot wait for a request")

    def tell(self, run: Callable[[], None], fail: Callable[[BaseException], None]) -> None:
        """Do something between two steps; `fail` is called with the error if it cannot be done.

        Raises:
            EngineForkedError, EngineDeadError, EngineClosedError: as `check`.
        """
        self.check_process()  # before the lock, which nobody gives back in a child
        with self._wake:
            self.check()
            self._commands.append(_Command(run, fail))
            self._wake.notify()

    def tell_unlocked(self, run: Callable[[], None]) -> None:
        """`tell` for finalizers, which must take no lock: done before the next step, not at once."""
        self._commands.append(_Command(run, lambda _error: None))

    def ask(self, question: Callable[[], T]) -> T:
        """Answer between two steps.

        Raises:
            EngineForkedError, EngineDeadError, EngineClosedError: as `check`.
            Exception: whatever `question` raises.
        """
        self.check()
        if self.is_current:
            return question()
        answer: Future[T] = Future()

        def fail(error: BaseException) -> None:
            if not answer.done():
                answer.set_exception(error)

        self.tell(lambda: answer.set_result(question()), fail)
        return answer.result()

    def stop(self) -> None:
        """Have the thread end, and do not wait for it."""
        if self.forked:
            return
        with self._wake:
            self._closed = True
            self._wake.notify()

    def close(self) -> None:
        """Have the thread end after the step in hand, and wait for it unless called on the thread itself."""
        self.stop()
        if not self.forked and not self.is_current:
            self._thread.join()
            if self._feed is not None:
                self._feed.join(_EXIT_PATIENCE_S)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            _enter(self._device)
            self._work()
        except BaseException as caught:
            # SystemExit, too: threading would take it for the thread's wish to end, and tell nobody.
            error = caught
            _logger.critical("the engine stopped", exc_info=True)
        self._end(error)

    def _work(self) -> None:
        while True:
            with self._wake:
                if self._loop.has_work and self._loop.stalled:
                    if not (self._commands or self._closed):
                        self._wake.wait(self._patience())
                else:
                    self._wake.wait_for(lambda: self._commands or self._closed or self._loop.has_work)
            closed = self._closed  # after which no command comes: none is left when these are done
            self._obey()
            if closed:
                self._loop.abort_all()
                return
            if self._loop.has_work:
                started = perf_counter()
                ended = self._loop.step()
                if ended:
                    self._regroup(ended, _PATIENCE * (perf_counter() - started))

    def _patience(self) -> float:
        """Seconds to wait for something to do where a step found nothing."""
        deadline = self._loop.next_deadline
        return _STALL_S if deadline is None else min(_STALL_S, max(0.0, deadline - perf_counter()))

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    def _obey(self) -> None:
        for _ in range(len(self._commands)):
            command = self._commands.popleft()
            try:
                command.run()
            except Exception as error:
                command.fail(error)
            except BaseException:
                self._commands.appendleft(command)  # to be told why nobody does it
                raise

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

    def _end(self, error: BaseException | None) -> None:
        """Tell all waiting callers, and free what the loop holds; what fails here hinders nothing else."""
        with self._wake:
            self._error = error
            self._closed = True  # from here on no command comes
        for handle in self._loop.handles():
            with suppress(BaseException):
                handle.fail(_ended(error))
        while self._commands:
            with suppress(BaseException):
                self._commands.popleft().fail(_ended(error))
        try:
            self._loop.close()
        except BaseException:
            _logger.exception("the memory of an engine could not be freed")
        if self._feed is not None:
            self._feed.close()


def _enter(device: torch.device) -> None:
    """Make `device` this thread's current one: a thread starts on the first."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _ended(error: BaseException | None) -> RadixCacheError:
    return EngineClosedError("the engine is closed") if error is None else _dead(error)


def _dead(error: BaseException) -> EngineDeadError:
    dead = EngineDeadError(describe(error))
    dead.__cause__ = error
    return dead


_running: WeakSet[EngineThread] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread that is inside torch when the interpreter goes away takes the process down with it."""
    threads = list(_running)
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.close()
    for thread in threads:
        thread.callbacks.finish(_EXIT_PATIENCE_S)
