"""What the doctor found: the schema of its JSON, documented in docs/doctor-json.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from radixcache.doctor.diagnosis.table import RequestTable

__all__ = [
    "CAUSES",
    "SCHEMA",
    "CurveSketch",
    "Diagnosis",
    "Edit",
    "Example",
    "Finding",
    "Side",
    "TimelineBucket",
    "TreeNode",
    "Where",
]

SCHEMA = "radixcache.doctor/1"

CAUSES = (
    "first_sight",
    "diverged",
    "evicted",
    "expired",
    "partial_block",
    "other_namespace",
    "model_changed",
    "not_yet_computed",
    "too_large",
    "last_token",
)
"""Every missed token has exactly one of these."""


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


@dataclass(slots=True)
class TreeNode:
    """Tokens that the same requests have in common.

    Attributes:
        tokens: how many.
        requests: prompts that pass through.
        text: how they begin; empty where the log holds no text.
        reused_tokens: how many of these tokens were reused, all requests together.
        children: what follows.
        folded: nodes left out here, if it stands for several; their figures are in this one's.
    """

    tokens: int
    requests: int
    text: str
    reused_tokens: int
    children: list[TreeNode] = field(default_factory=list)
    folded: int = 0

    def to_json(self) -> dict[str, Any]:
        """The node and all below it."""
        found: dict[str, Any] = {
            "tokens": self.tokens,
            "requests": self.requests,
            "text": self.text,
            "reused_tokens": self.reused_tokens,
            "children": [child.to_json() for child in self.children],
        }
        return {**found, "folded": self.folded} if self.folded else found


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
    tree: TreeNode
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
        yield "tree", self.tree.to_json()
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
