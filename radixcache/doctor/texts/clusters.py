"""Verdicts on single requests put together into findings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from radixcache.doctor.diagnosis.schema import Example
from radixcache.doctor.texts.judge import Verdict
from radixcache.doctor.texts.segments import alike, bare, pattern_of

__all__ = ["Cluster", "gather"]

_MOST_VARIANTS = 64
_MOST_PATTERNS = 4
_MOST_PIECES = 24
_PIECE_START = 40
_MOST_EXAMPLES = 2


@dataclass(slots=True)
class Cluster:
    """Verdicts of one kind, how and place.

    Attributes:
        first: the first of them.
        requests, tokens: how many, and the tokens they missed.
        examples: at most two, of different requests.
        variants: for each place that varies, its variants.
        places: how many requests each line of the place has, to name the most common one.
    """

    first: Verdict
    requests: int = 0
    tokens: int = 0
    examples: list[Example] = field(default_factory=list)
    variants: list[list[str]] = field(default_factory=list)

    def add(self, verdict: Verdict, tokens: int) -> None:
        """Take in another verdict."""
        self.requests += 1
        self.tokens += tokens
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(verdict.example)
        for segment in verdict.varying:
            self._add_variants(segment)

    def edits(self) -> list[str]:
        """Edits that may undo it, the likeliest first."""
        verdict = self.first
        if verdict.edit is not None:
            return [verdict.edit]
        if verdict.kind == "volatile_text" and verdict.where.part != "template":
            ends = ["end"] if verdict.where.part == "prompt" else ["last", "end"]
            return [f"move:{pattern}:{end}" for pattern in self._volatile_patterns() for end in ends]
        if verdict.kind == "reordered":
            return [f"sort:{_piece_pattern(self.variants, last=verdict.how == 'all pieces')}"]
        return []

    def takes(self, verdict: Verdict) -> bool:
        """Whether a verdict belongs here."""
        mine = self.first
        if (mine.kind, mine.how, mine.where.part, mine.where.role) != (
            verdict.kind,
            verdict.how,
            verdict.where.part,
            verdict.where.role,
        ):
            return False
        if verdict.kind != "volatile_text":
            return True
        return not verdict.varying or not self.variants or self._home(verdict.varying[0]) is not None

    def _add_variants(self, segment: list[str]) -> None:
        home = self._home(segment)
        if home is None:
            self.variants.append(list(dict.fromkeys(segment)))
        elif len(home) < _MOST_VARIANTS:
            home += [text for text in dict.fromkeys(segment) if text not in home]

    def _home(self, segment: Sequence[str]) -> list[str] | None:
        if self.first.kind == "reordered":
            return self.variants[0] if self.variants else None
        return next((known for known in self.variants if alike(known[0], segment[-1])), None)

    def _volatile_patterns(self) -> list[str]:
        """What matches the first place that varies, and what matches several: later ones may be innocent."""
        found: list[str] = []
        for variants in self.variants[:_MOST_PATTERNS]:
            pattern = pattern_of(variants)
            if pattern is None:
                if not found:
                    return []
            elif all(re.search(pattern, bare(text)) for text in variants) and not re.fullmatch(pattern, ""):
                found.append(pattern)
        return [*found[:1], *(["(?:" + "|".join(found) + ")"] if len(found) > 1 else [])]


def _piece_pattern(variants: Sequence[Sequence[str]], *, last: bool) -> str:
    """Pieces that change places, by what they begin with; the text's last piece only if it is one of them.

    The last one is the question as a rule, and has to stay where it is.
    """
    pieces = [piece for part in variants for piece in part]
    lines = all("\n" not in piece for piece in pieces)
    start = pieces[0]
    for piece in pieces:
        while not piece.startswith(start):
            start = start[:-1]
    start = start.split("\n")[0].rstrip()
    if sum(map(str.isalnum, start)) >= 3:
        beginnings = re.escape(re.split(r"\d", start)[0] if re.search(r"\d", start) else start).replace(
            "\\ ", " "
        )
    else:
        starts = [re.escape(piece.split("\n")[0][:_PIECE_START]).replace("\\ ", " ") for piece in pieces]
        beginnings = "(?:" + "|".join(sorted(dict.fromkeys(starts))[:_MOST_PIECES]) + ")"
    if lines:
        return rf"(?m)^{beginnings}.*" + ("$" if last else r"(?=\n)")
    return rf"(?ms)^{beginnings}.*?" + (r"(?=\n\s*\n|\Z)" if last else r"(?=\n\s*\n)")


def gather(clusters: list[Cluster], verdict: Verdict, tokens: int) -> Cluster:
    """Add a verdict to the cluster that takes it, or a new one."""
    home = next((cluster for cluster in clusters if cluster.takes(verdict)), None)
    if home is None:
        home = Cluster(verdict)
        clusters.append(home)
    home.add(verdict, tokens)
    return home
