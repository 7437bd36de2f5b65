"""How far the host may run ahead of the device."""

from __future__ import annotations

from collections import deque

import torch


class Pace:
    """Keeps the host at most `ahead` steps before the device.

    A step that samples nothing is not waited for. Without a bound all chunks of a long prompt would be
    queued at once, and whoever arrives or aborts meanwhile would wait for all of them.
    """

    def __init__(self, ahead: int = 2) -> None:
        self._ahead = ahead
        self._steps: deque[torch.cuda.Event] = deque()

    def mark(self) -> None:
        """A step has been queued; wait until no more than `ahead` are unfinished."""
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        self._steps.append(done)
        if len(self._steps) > self._ahead:
            self._steps.popleft().synchronize()
