"""What the doctor found: the schema of its JSON, documented in docs/doctor-json.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from radixcache.cache.misses import MissReason
from radixcache.doctor.diagnosis.table import RequestTable

__all__ = [
    "CAUSES",
    "SCHEMA",
    "Cause",
    "CurveSketch",
    "Diagnosis",
    "Edit",
    "Example",
    "Finding",
    "LogCause",
    "PrefixTree",
    "Side",
    "TimelineBucket",
    "TreeNode",
    "Where",
]

SCHEMA = "radixcache.doctor/2"


class LogCause(StrEnum):
    """Causes of misses that only a log shows, beside the cache's own `MissReason`."""

    EXPIRED = "expired"  # cached, but its time to live was over
    MODEL_CHANGED = "model_changed"  # computed by another model or adapter
    TOO_LARGE = "too_large"  # the whole prompt does not fit the cache


Cause = MissReason | LogCause
CAUSES = tuple(
    str(cause) for kind in (MissReason, LogCause) for cause in kind if cause is not MissReason.CACHE_OFF
)
"""Every missed token has exactly one of these: the cache's reasons (the cache is never off here), then those
of the log."""


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a prompt.

    Attributes:
        part: `system`, `tools`, `message`, `template` (text that the chat template adds) or `prompt` (a
            prompt that is one text); None where a finding has no place.
        message: index into the logged messages, from 0; None outside messages.
        role: of that message.
        line: line of that part's text, from 1.
    """

    part: str | None = None
    message: int | None = None
    role: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """A change that undoes a finding.

    Attributes:
        what_if: the same as `--what-if` takes it.
        description: in plain language.
    """

    what_if: str
    description: str


@dataclass(frozen=True, slots=True)
class Side:
    """One of two requests side by side.

    Attributes:
        source, line: where it stands in the log.
        token: index of the token at which the two part.
        before: the end of what they share.
        differs: what this one has there; empty if it has nothing.
        after: what follows.
    """

    source: str
    line: int
    token: int
    before: str
    differs: str
    after: str


@dataclass(frozen=True, slots=True)
class Example:
    """The earlier request, and the one that missed."""

    left: Side
    right: Side


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason for misses that something can be done about.

    Attributes:
        id: kind and number, to link to.
        kind: `volatile_text`, `reordered`, `json_layout`, `history_rewritten`, `tools_changed`,
            `template_not_stable`, `retokenised`, `capacity`, `policy`, `expired`, `partial_block`,
            `other_namespace`, `model_changed`, `not_yet_computed` or `too_large`.
        title: one line.
        advice: what to do, in plain language.
        where: where the prompts part.
        requests: how many are affected.
        tokens_lost: tokens that they missed from there on.
        gain_tokens: prompt tokens less to be computed after the edit, measured by simulating the rewritten
            log; None where there is no edit.
        hit_rate_after: of the rewritten log, 0 to 1.
        prefill_s: seconds of prefill that `tokens_lost` stand for; None without a prefill speed.
        money: `{"currency", "amount"}` of the tokens lost; None without prices.
        edit: what undoes it; None where nothing in the log can be rewritten.
        examples: at most two pairs of requests.
        sampled: whether `requests` and `tokens_lost` are scaled up from a sample of the misses.
    """

    id: str
    kind: str
    title: str
    advice: str
    where: Where
    requests: int
    tokens_lost: int
    gain_tokens: int | None = None
    hit_rate_after: float | None = None
    prefill_s: float | None = None
    money: dict[str, Any] | None = None
    edit: Edit | None = None
    examples: Sequence[Example] = ()
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class TimelineBucket:
    """Consecutive requests, summed.

    Attributes:
        request: index of the first, in order of arrival.
        timestamp: of the first, seconds; None if the log has none.
        prompt_tokens, cached_tokens: of all of them.
    """

    request: int
    timestamp: float | None
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class CurveSketch:
    """The LRU hit rate by capacity, as `radixcache curve` counts it.

    Attributes:
        block_size: tokens a block.
        points: `{"capacity_blocks", "hit_rate", "clairvoyant_hit_rate"}`, capacities rising.
        knee: the point after which more room brings clearly less; None if there is no such place.
    """

    block_size: int
    points: Sequence[dict[str, Any]]
    knee: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TreeNode:
    """Tokens that the same requests have in common.

    Attributes:
        parent: index of the node before it; None for the root.
        tokens: number of tokens.
        requests: prompts that pass through.
        text: how the tokens begin; empty where the log holds no text.
        reused_tokens: how many of these tokens were reused, summed over all requests.
        folded: number of nodes that were left out here and whose figures are in this one; 0 for a plain node.
    """

    parent: int | None
    tokens: int
    requests: int
    text: str
    reused_tokens: int
    folded: int = 0


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """The prefix tree as a list, so that neither JSON nor its readers nest as deep as conversations do.

    Attributes:
        nodes: the root first, every parent before its children.
    """

    nodes: Sequence[TreeNode]

    def __post_init__(self) -> None:
        """Raises ValueError unless the parents form one tree."""
        if not self.nodes:
            raise ValueError("nodes must not be empty")
        for place, node in enumerate(self.nodes):
            if (node.parent is None) != (place == 0) or not 0 <= (node.parent or 0) <= max(0, place - 1):
                raise ValueError(f"nodes[{place}].parent must be an earlier node, got {node.parent!r}")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that --json holds.

    Attributes:
        logs: the files read.
        requests, sessions, bad_lines: as in `radixcache simulate`.
        prompt_tokens, cached_tokens: of all requests.
        missed_tokens: tokens that were not reused, by cause; they add up to the rest of the prompt tokens.
        settings: how the log was simulated.
        findings: ranked by tokens lost.
        timeline: at most 200 buckets.
        curve: None where it was not drawn.
        tree: the prefix tree, pruned.
        table: a row a request.
        what_if: the log after the edits asked for: `{"edits", "prompt_tokens", "cached_tokens", "hit_rate",
            "gain_tokens"}`; None if none was asked for.
        pricing: what `radixcache.pricing` says; None without prices.
        versions: of Python and the package.
    """

    logs: Sequence[str]
    requests: int
    sessions: int
    bad_lines: int
    prompt_tokens: int
    cached_tokens: int
    missed_tokens: dict[str, int]
    settings: dict[str, Any]
    findings: Sequence[Finding]
    timeline: Sequence[TimelineBucket]
    curve: CurveSketch | None
    tree: PrefixTree
    table: RequestTable
    what_if: dict[str, Any] | None = None
    pricing: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def hit_rate(self) -> float:
        """Cached over prompt tokens, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it, `table` with its rows."""
        return {name: list_table(value) if name == "table" else value for name, value in self.fields()}

    def fields(self) -> Iterator[tuple[str, Any]]:
        """Names and JSON values in order; `table` is left as it is, for it may be long."""
        yield "schema", SCHEMA
        for name in ("logs", "requests", "sessions", "bad_lines", "prompt_tokens", "cached_tokens"):
            value = getattr(self, name)
            yield name, list(value) if name == "logs" else value
        yield "hit_rate", self.hit_rate
        yield "missed_tokens", {cause: self.missed_tokens.get(cause, 0) for cause in CAUSES}
        yield "settings", self.settings
        yield "findings", [_plain(finding) for finding in self.findings]
        yield "timeline", [asdict(bucket) for bucket in self.timeline]
        yield "curve", None if self.curve is None else _plain(self.curve)
        yield "tree", asdict(self.tree)
        yield "table", self.table
        yield "what_if", self.what_if
        yield "pricing", self.pricing
        yield "versions", self.versions


def list_table(table: RequestTable) -> dict[str, Any]:
    """A table as JSON holds it."""
    return {"columns": list(table.columns), "rows": list(table.rows())}


def _plain(value: Finding | CurveSketch) -> dict[str, Any]:
    """A dataclass as JSON has it, tuples as lists."""
    found = asdict(value)
    return {name: list(item) if isinstance(item, tuple) else item for name, item in found.items()}
