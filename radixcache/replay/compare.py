"""Whether two runs of one log gave the same answers."""

from __future__ import annotations

from collections.abc import Sequence

from radixcache.replay.results import DifferingRequest, RequestRecord, Verdict

__all__ = ["differing_requests"]

_SHOWN = 8


def differing_requests(off: Sequence[RequestRecord], on: Sequence[RequestRecord]) -> list[DifferingRequest]:
    """Requests whose output ids or finish reason differ; one answered in a single run differs at token 0.

    Both runs hold the same requests in the same order. The verdict is `failed` for a request that failed or
    was aborted in one run, `wrong` where an output ends and the other goes on, since an end is a token, too,
    and None where two tokens differ: what that means, `examine` finds out.
    """
    found: list[DifferingRequest] = []
    for a, b in zip(off, on, strict=True):
        answered = (a.error is None, b.error is None)
        if answered == (False, False):
            continue
        same = (
            answered == (True, True) and a.output_ids == b.output_ids and a.finish_reason == b.finish_reason
        )
        if not same:
            token = _first_difference(a.output_ids, b.output_ids)
            shown = slice(token, token + _SHOWN)
            found.append(
                DifferingRequest(
                    a.index,
                    a.source,
                    a.line,
                    token,
                    a.output_ids[shown],
                    b.output_ids[shown],
                    verdict=_verdict(a, b, token),
                )
            )
    return found


def _verdict(a: RequestRecord, b: RequestRecord, token: int) -> Verdict | None:
    if any(record.error is not None or record.finish_reason == "abort" for record in (a, b)):
        return "failed"
    return None if token < min(len(a.output_ids), len(b.output_ids)) else "wrong"


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    for position, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return position
    return min(len(a), len(b))
