"""Tokens that a sequence will perhaps continue with, to be verified several in one step."""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf
from typing import Protocol

from radixcache.engine.request import Sequence
from radixcache.errors import OutOfBlocksError

_logger = logging.getLogger("radixcache.engine")


class Drafter(Protocol):
    """Proposes continuations."""

    def propose(self, tokens: bytes | bytearray, most: int) -> SequenceOf[int]:
        """At most `most` tokens that may follow `tokens` (packed; not to be changed or kept)."""


class Drafts:
    """Extends decoding sequences by drafted tokens.

    A draft never costs another sequence anything: one for which there is no room, or that cannot be had, is
    left out. Rejected tokens are taken back by `Lease.truncate` once the step is over.
    """

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter

    def extend(self, running: SequenceOf[Sequence], budget: int) -> None:
        """Draft for sequences that hold a lease.

        Args:
            running: the sequences.
            budget: tokens that the step has room for beside one for each decoding sequence.
        """
        for sequence in running:
            lease = sequence.lease
            if lease is None or not sequence.decoding or lease.num_tokens - lease.num_computed_tokens > 1:
                continue
            most = min(budget, sequence.remaining - 1)
            if most <= 0:
                continue
            try:
                draft = list(self._drafter.propose(lease.buffer, most))[:most]
                if draft:
                    lease.extend(draft)
            except OutOfBlocksError:
                continue
            except Exception:
                _logger.exception("request %s is not drafted for", sequence.request.handle.request_id)
                continue
            budget -= len(draft)
