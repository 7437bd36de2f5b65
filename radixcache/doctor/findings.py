"""Findings: what was seen in the texts and in the figures, each with its gain as simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from radixcache.curve.curve import Curve
from radixcache.doctor.attribution import Attribution
from radixcache.doctor.diagnosis.schema import Edit, Finding, Where
from radixcache.doctor.edits.measure import Measured
from radixcache.doctor.edits.what_if import parse_edits
from radixcache.doctor.settings import DoctorSettings
from radixcache.doctor.texts.clusters import Cluster
from radixcache.doctor.texts.sampling import Examined
from radixcache.doctor.wording import advice_of, describe_edit, title_of

__all__ = ["Measure", "gainful_edits", "ranked", "setting_findings", "text_findings"]

Measure = Callable[[Sequence[str]], Measured | None]
"""What is reused after edits, given as texts."""

_LEAST_SHARE = 0.005
_MUCH_SHARE = 0.2
_MOST_MEASURED = 6
_POLICY = "auto"


def text_findings(examined: Examined, measure: Measure, now: Measured) -> list[Finding]:
    """What the clusters amount to; one whose edit gains next to nothing is left out.

    The six that lost most are measured. Of several edits the one that leaves least to compute is taken.
    """
    findings = []
    clusters = [c for c in examined.clusters if _tells(c, examined.weight, now)]
    for cluster in sorted(clusters, key=lambda cluster: -cluster.tokens)[:_MOST_MEASURED]:
        finding = Finding(
            id="",
            kind=cluster.first.kind,
            title=title_of(cluster),
            advice=advice_of(cluster),
            where=cluster.first.where,
            requests=round(cluster.requests * examined.weight),
            tokens_lost=round(cluster.tokens * examined.weight),
            examples=cluster.examples,
            sampled=examined.weight > 1,
        )
        finding = with_gain(finding, cluster.edits(), measure, now)
        if finding.edit is None:
            # Text that varies in one long prompt, and fits no pattern, is what was asked.
            if finding.kind != "volatile_text" or finding.where.part in ("system", "tools", "template"):
                findings.append(finding)
        elif finding.gain_tokens is not None and finding.gain_tokens >= _least(now):
            findings.append(finding)
    return findings


def _tells(cluster: Cluster, weight: float, now: Measured) -> bool:
    """Whether it is worth a simulation: text that varied but once may be chance, unless much was lost."""
    lost = cluster.tokens * weight
    often = cluster.requests > 1 or cluster.first.kind != "volatile_text"
    return lost >= _least(now) and (often or lost >= _MUCH_SHARE * now.missed_tokens)


def with_gain(finding: Finding, edits: Iterable[str], measure: Measure, now: Measured) -> Finding:
    """A finding with the best of some edits, as far as they can be simulated."""
    best: tuple[int, str, Measured] | None = None
    for text in edits:
        after = measure([text])
        if after is not None and (best is None or now.missed_tokens - after.missed_tokens > best[0]):
            best = now.missed_tokens - after.missed_tokens, text, after
    if best is None:
        return finding
    gain, text, after = best
    return replace(
        finding, gain_tokens=gain, hit_rate_after=after.hit_rate, edit=Edit(text, describe_edit(text))
    )


def _least(now: Measured) -> int:
    return max(1, round(_LEAST_SHARE * now.missed_tokens))


def setting_findings(
    found: Attribution,
    settings: DoctorSettings,
    block_size: int,
    curve: Curve | None,
    measure: Measure,
    now: Measured,
) -> list[Finding]:
    """What the figures alone say: capacity, policy, times to live, blocks, namespaces, crowding."""
    findings = []
    for kind, title, advice, edits in (
        *_capacity(found, settings, curve),
        (
            "expired",
            "Prefixes expired before they were reused",
            "Reuse a prefix before its time to live is over, or pay for a longer one.",
            ["ttl:none"],
        ),
        (
            "partial_block",
            f"Tokens did not fill a whole block of {block_size}",
            "Use smaller blocks, or a cache that reuses part of a block by copying it (copy-on-write).",
            _smaller_blocks(block_size),
        ),
        (
            "other_namespace",
            "The same text was computed in another namespace",
            "Share one namespace among tenants that may see each other's prompts, or compute what they have "
            "in common in a namespace that all of them may read.",
            ["share:namespaces"],
        ),
        (
            "model_changed",
            "The same text was computed by another model or adapter",
            "Keys and values cannot be shared between models: keep a conversation with one model.",
            [],
        ),
        (
            "not_yet_computed",
            "Requests arrived before an earlier one with the same prefix was computed",
            "Send one request first, and the others once its first token has arrived.",
            [],
        ),
        (
            "too_large",
            "Prompts are larger than the cache",
            "Make the cache at least as large as the longest prompt.",
            [],
        ),
    ):
        cause = {"capacity": "evicted", "policy": "evicted"}.get(kind, kind)
        lost = found.missed.get(cause, 0)
        if lost < _least(now):
            continue
        requests = sum(1 for tokens in found.by_cause[cause] if tokens)
        finding = Finding("", kind, title, advice, Where(), requests, lost)
        finding = with_gain(finding, edits, measure, now)
        if finding.gain_tokens is None or finding.gain_tokens >= _least(now):
            findings.append(finding)
    return findings


def _capacity(
    found: Attribution, settings: DoctorSettings, curve: Curve | None
) -> Iterable[tuple[str, str, str, list[str]]]:
    if settings.capacity is None or curve is None or not found.missed.get("evicted"):
        return
    last = curve.saturation
    half = _capacity_for(curve, (curve.hits.at(settings.capacity) + curve.hits.at(last) + 1) // 2)
    if last > settings.capacity:
        yield (
            "capacity",
            f"Prefixes were evicted from a cache of {settings.capacity:,} blocks before they were reused",
            f"By LRU stack distances, {last:,} blocks would keep everything and {half:,} blocks half of it.",
            [f"capacity:{last}"],
        )
    if settings.policy != _POLICY:
        yield (
            "policy",
            f"Another eviction policy than {settings.policy} would have kept more",
            "Use an eviction policy that fits the log; auto simulates several in miniature and picks one.",
            [f"policy:{_POLICY}"],
        )


def _capacity_for(curve: Curve, hits: int) -> int:
    """The smallest capacity in blocks with at least `hits` hit blocks."""
    low, high = 0, curve.saturation
    while low < high:
        middle = (low + high) // 2
        if curve.hits.at(middle) >= hits:
            high = middle
        else:
            low = middle + 1
    return low


def _smaller_blocks(block_size: int) -> list[str]:
    return [f"block-size:{size}" for size in (block_size // 4,) if size >= 1]


def ranked(findings: Iterable[Finding], prefill_speed: float | None) -> list[Finding]:
    """Findings by tokens lost, with ids and the prefill time they stand for."""
    numbers: dict[str, int] = {}
    done = []
    for finding in sorted(findings, key=lambda f: (-f.tokens_lost, -(f.gain_tokens or 0))):
        numbers[finding.kind] = number = numbers.get(finding.kind, 0) + 1
        seconds = None if prefill_speed is None else finding.tokens_lost / prefill_speed
        name = f"{finding.kind.replace('_', '-')}-{number}"
        done.append(replace(finding, id=name, prefill_s=seconds))
    return done


def gainful_edits(findings: Iterable[Finding]) -> list[str]:
    """Edits of the log itself, not of settings, that gain something, in the order of the findings."""
    texts = [finding.edit.what_if for finding in findings if finding.edit is not None]
    return [edit.text for edit in parse_edits(list(dict.fromkeys(texts))) if edit.make is not None]
