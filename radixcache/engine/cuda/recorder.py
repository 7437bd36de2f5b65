"""Recording a computation once and replaying it: CUDA graphs behind one small protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch


class Recorder(Protocol):
    """Turns a function into a replay of what it did."""

    def record(self, compute: Callable[[], None]) -> Callable[[], None]:
        """Run `compute` once, record another run of it, and return what replays the recording.

        `compute` reads and writes tensors that live on; a replay works on the same tensors and
        does not run its Python again. The recorded run need not happen until it is replayed.

        Raises:
            RuntimeError: it does something that cannot be recorded, like waiting for the device.
        """
        ...


class CudaRecorder:
    """CUDA graphs, all in one memory pool: they never run at the same time, so they share scratch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, compute: Callable[[], None]) -> Callable[[], None]:
        """As `Recorder.record`. Nothing that `compute` allocates may be used after a replay.

        Raises:
            RuntimeError: it does something that cannot be captured.
        """
        # Kernels are compiled, and libraries set up, on the stream that captures.
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            compute()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may use the device meanwhile: callers with models of their own.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                compute()
        except BaseException:
            # torch leaves its stream the current one if a capture fails.
            torch.cuda.set_stream(current)
            raise
        return graph.replay
