"""What is asked of CUDA itself, with stand-ins for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch

from radixcache.engine.cuda.pace import Pace
from radixcache.engine.cuda.recorder import CudaRecorder


class Event:
    made: ClassVar[list[Event]] = []

    def __init__(self) -> None:
        self.waited = False
        Event.made.append(self)

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        self.waited = True


def test_the_host_runs_two_steps_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "made", [])
    pace = Pace()
    for step in range(6):
        pace.mark()
        assert [event.waited for event in Event.made] == [place <= step - 2 for place in range(step + 1)]


class Stream:
    def __init__(self, device: Any = None) -> None:
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited_for.append(other)


class Graph:
    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


class Cuda:
    """Streams and captures; like torch, it leaves the capturing stream the current one on an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main = self.current = Stream()
        self.capturing = False
        for name, value in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "graph": self.graph,
            "stream": self.stream,
            "current_stream": lambda device=None: self.current,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "graph_pool_handle": lambda: (0, 1),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: Graph, *, pool: Any, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        before, self.current, self.capturing = self.current, stream, True
        yield
        self.current, self.capturing = before, False


def test_a_recording_is_warmed_up_on_its_stream_and_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    seen: list[tuple[bool, bool]] = []
    recorder = CudaRecorder(torch.device("cuda:0"))
    replay = recorder.record(lambda: seen.append((cuda.current is cuda.main, cuda.capturing)))
    assert seen == [(False, False), (False, True)]
    # The warm-up comes after what was queued before it, and what follows comes after the warm-up.
    assert recorder._stream.waited_for == [cuda.main]
    assert cuda.main.waited_for == [recorder._stream]
    replay()
    assert len(seen) == 2


def test_after_a_failed_capture_the_current_stream_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)

    def compute() -> None:
        if cuda.capturing:
            raise RuntimeError("not permitted")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder(torch.device("cuda:0")).record(compute)
    assert cuda.current is cuda.main
