"""What a replay's report says about equal answers: what is promised, what was found, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from radixcache.replay.results import DifferingRequest, ReplayReport
from radixcache.report.text import number_of, visible

__all__ = ["breaks_promise", "broken_promise", "outcome", "promise", "rounding_warning", "verdict_of"]

_HALF = ("float16", "bfloat16")


def _reason(text: str) -> str:
    return visible(text, limit=400)


def rounding_warning(variance: str, *, invariant: str, dtype: str, device: str) -> str:
    """That answers may differ, why, and what prevents it.

    Args:
        variance: the reason, as the engine gives it; may be empty.
        invariant: what was asked for: `auto`, `on` or `off`.
        dtype, device: as in `ReplayReport`.
    """
    reason = f": {variance.rstrip('. ')}" if variance else ""
    remedy = _remedy(invariant, dtype, device)
    return f"Answers may differ by rounding with batching and cache hits{reason}.{remedy and ' ' + remedy}"


def _remedy(invariant: str, dtype: str, device: str) -> str:
    on_cpu = device.startswith("cpu")
    if invariant == "off" or not on_cpu:
        return "To prevent it: --invariant on."
    return "To prevent it: --dtype float32." if dtype in _HALF else ""


def promise(report: ReplayReport, shown: Callable[[str], str] = _reason) -> str:
    """One sentence or two: whether answers depend on batching and cache hits.

    Args:
        report: of one run or two.
        shown: makes the engine's reason safe to show.
    """
    varying = [run for run in report.runs if run.batch_invariant is False]
    if varying:
        reason = next((run.variance for run in varying if run.variance), "")
        return rounding_warning(
            shown(reason), invariant=report.invariant, dtype=report.dtype, device=report.device
        )
    if any(run.batch_invariant is None for run in report.runs):
        return "Whether answers depend on batching or cache hits was not recorded."
    if any(request.verdict != "failed" for request in report.differing_requests):
        return "Promised: answers do not depend on batching or cache hits."
    return "Answers do not depend on batching or cache hits (checked on this machine)."


def outcome(report: ReplayReport) -> str:
    """What the comparison of two runs found, after the word `identical` or `different`."""
    if report.identical_outputs:
        answered = report.runs[-1].requests
        return f"in {answered:,} of {number_of(answered, 'request')}, cache off and on"
    differing = report.differing_requests
    found = f"in {len(differing):,} of {number_of(report.requests, 'request')}"
    verdicts = Counter(request.verdict for request in differing)
    if not verdicts["rounding"] and not verdicts["wrong"] and not verdicts["failed"]:
        return found
    margins = [r.margin for r in differing if r.verdict == "rounding" and r.margin is not None]
    largest = f" (largest margin {_logits(max(margins))} logits)" if margins else ""
    parts = [f"{verdicts['rounding']:,} by rounding{largest}", f"{verdicts['wrong']:,} otherwise"]
    if verdicts["failed"]:
        parts.append(f"{verdicts['failed']:,} failed in one run")
    if verdicts[None]:
        parts.append(f"{verdicts[None]:,} not examined")
    return f"{found}: {', '.join(parts)}"


def broken_promise(report: ReplayReport) -> str:
    """What is to be said loudly: wrong answers, or other answers than were promised; else empty."""
    verdicts = Counter(request.verdict for request in report.differing_requests)
    if verdicts["wrong"]:
        answers = "1 answer is" if verdicts["wrong"] == 1 else f"{verdicts['wrong']:,} answers are"
        return (
            f"{answers} wrong: the difference is more than rounding explains. "
            "Please report it, with the --json file."
        )
    if _promised(report) and (verdicts["rounding"] or verdicts[None]):
        return "The engine promised equal answers, and they are not. Please report it, with the --json file."
    return ""


def breaks_promise(report: ReplayReport) -> bool:
    """Whether an answer is wrong though the engine said that answers do not depend on the cache."""
    return _promised(report) and any(r.verdict == "wrong" for r in report.differing_requests)


def verdict_of(request: DifferingRequest) -> str:
    """A few words for a table: `rounding, 0.01 of 0.25 logits`."""
    if request.verdict is None:
        return "not examined"
    if request.verdict == "failed":
        return "failed in one run"
    if request.margin is None or request.bound is None:
        return request.verdict
    return f"{request.verdict}, {_logits(request.margin)} of {_logits(request.bound)} logits"


def _logits(value: float) -> str:
    return f"{value:.2g}"


def _promised(report: ReplayReport) -> bool:
    return all(run.batch_invariant is True for run in report.runs)
