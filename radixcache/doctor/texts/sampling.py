"""Which misses are looked at: all of a short log, an even selection of a long one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from radixcache.cache.misses import MissReason
from radixcache.doctor.attribution import Attribution, Progress
from radixcache.doctor.texts.classify import classify
from radixcache.doctor.texts.clusters import Cluster, gather
from radixcache.doctor.texts.judge import Verdict, judge_tokens
from radixcache.doctor.texts.layout import Laid, Part, lay_out
from radixcache.prompts.encode import PromptEncoder
from radixcache.strings import common_start
from radixcache.tokens import common_prefix
from radixcache.workload.spool import RecordSpool, TokenSpool

__all__ = ["Examined", "examine_misses"]

_MOST = 400
_KEPT = 64


@dataclass(slots=True)
class Examined:
    """What was found by looking.

    Attributes:
        clusters: verdicts put together.
        parts: the part in which each request that was looked at parted from what was known, by its index.
        weight: missed tokens, and requests, that each of those looked at stands for; 1.0 if all were.
    """

    clusters: list[Cluster] = field(default_factory=list)
    parts: dict[int, str] = field(default_factory=dict)
    weight: float = 1.0


def examine_misses(
    records: RecordSpool,
    tokens: TokenSpool,
    attribution: Attribution,
    encoder: PromptEncoder,
    on_progress: Progress = lambda *_: None,
) -> Examined:
    """Compare requests that parted from an earlier one with it, at most 400 of them."""
    examiner = _Examiner(records, tokens, attribution, encoder)
    every = list(_candidates(attribution))
    step = max(1, -(-len(every) // _MOST))
    chosen = every[step // 2 :: step]
    examined = Examined(weight=sum(t for _, t in every) / max(1, sum(t for _, t in chosen)))
    for done, (index, missed) in enumerate(chosen):
        on_progress("comparing", done, len(chosen))
        part, verdict = examiner.judge(index)
        if part is not None:
            examined.parts[index] = part
        if verdict is not None:
            gather(examined.clusters, verdict, missed)
    on_progress("comparing", len(chosen), len(chosen))
    return examined


def _candidates(found: Attribution) -> Iterator[tuple[int, int]]:
    """Requests that parted from another one, with the tokens that they missed for it."""
    columns = [
        found.by_cause[cause]
        for cause in (MissReason.DIVERGED, MissReason.NEVER_SEEN)
        if cause in found.by_cause
    ]
    for index in found.order:
        if found.tokens[index] >= 0 and found.partners[index] >= 0:
            missed = next((column[index] for column in columns if column[index]), 0)
            if missed:
                yield index, missed


class _Examiner:
    """Judges requests, each against the one before in its session or the one it followed furthest."""

    def __init__(
        self, records: RecordSpool, tokens: TokenSpool, attribution: Attribution, encoder: PromptEncoder
    ) -> None:
        self._records = records
        self._tokens = tokens
        self._found = attribution
        self._encoder = encoder
        self._laid: OrderedDict[int, Laid | None] = OrderedDict()

    def judge(self, index: int) -> tuple[str | None, Verdict | None]:
        """The part where a request parted from what was known, and the verdict, if there is one."""
        found = self._found
        token, partner, previous = found.tokens[index], found.partners[index], found.previous[index]
        right = self._lay(index)
        if right is None:
            return None, None
        verdict = self._judge_tokens(index, partner, token)
        if verdict is None and previous not in (partner, -1):
            verdict = self._judge_previous(index, previous, token, right)
        left = None if verdict is not None else self._lay(partner)
        if left is not None:
            verdict = classify(left, right, token, same_session=previous == partner)
        if verdict is not None:
            return verdict.where.part, verdict
        return (None if left is None else right.part_at(common_start(left.text, right.text)).name), None

    def _judge_previous(self, index: int, previous: int, token: int, right: Laid) -> Verdict | None:
        """Against the request before in the session, if they part in much the same place."""
        shared = common_prefix(self._tokens.units(index)[0], self._tokens.units(previous)[0])
        left = self._lay(previous) if 2 * shared >= token else None
        return None if left is None else classify(left, right, shared, same_session=True)

    def _judge_tokens(self, index: int, partner: int, token: int) -> Verdict | None:
        prompt, output = self._tokens.units(partner)
        entries = self._records[partner], self._records[index]
        if not output or token < self._tokens.prompt_units[partner] - 1 or None in entries:
            return None
        assert entries[0] is not None
        assert entries[1] is not None
        left = entries[0], prompt + output
        return judge_tokens(left, (entries[1], self._tokens.units(index)[0]), token, self._encoder.decode)

    def _lay(self, index: int) -> Laid | None:
        if index in self._laid:
            self._laid.move_to_end(index)
            return self._laid[index]
        entry = self._records[index]
        laid = None
        if entry is not None and entry.prompt_token_ids is not None:
            text = self._encoder.decode(self._tokens.units(index)[0])
            laid = Laid(entry, text, [Part(0, len(text), "prompt")]) if text else None
        elif entry is not None:
            laid = lay_out(entry, self._encoder)
        self._laid[index] = laid
        if len(self._laid) > _KEPT:
            self._laid.popitem(last=False)
        return laid
