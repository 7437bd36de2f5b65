"""Whether a chat template is prefix-stable: whether what it wrote once stays as it is while turns are added.

A conversation is rendered as a chat sends it: at each request with the generation prompt, and with the answer
once it is there. Of two renderings the earlier must be the beginning of the later, or whatever was cached of
it from the first difference on is lost, turn after turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from radixcache.doctor.diagnosis.schema import Finding
from radixcache.doctor.template.conversations import Conversation, conversations
from radixcache.doctor.template.describe import describe
from radixcache.doctor.template.pairs import Pair, differing_pairs, shared_length, shrink
from radixcache.doctor.template.render import RefusedError, Renderer
from radixcache.doctor.template.results import (
    Outcome,
    TemplateChange,
    TemplateProof,
    TestedConversation,
    Verdict,
)
from radixcache.doctor.template.source import ChatTemplate, load_templates
from radixcache.errors import RadixCacheError

__all__ = ["prove_template", "with_proof"]

_FINDING = "template_not_stable"
_BASE = ("turns", "system prompt")
_BASE_WITH_TOOLS = (*_BASE, "tools", "tools without system prompt")


def prove_template(template: ChatTemplate) -> TemplateProof:
    """Try a template on every made-up conversation."""
    renderer = Renderer(template)
    tested: list[TestedConversation] = []
    changes: list[TemplateChange] = []
    for conversation in conversations():
        result, usable = _test(renderer, conversation)
        tested.append(result)
        if result.outcome == "changes":
            known = {_signature(change) for change in changes}
            for change in _smallest(renderer, usable):
                if _signature(change) not in known:
                    known.add(_signature(change))
                    changes.append(change)
    clock = _clock(renderer)
    if clock is not None:
        changes.append(clock)
    return TemplateProof(
        name=template.name,
        verdict=_verdict(tested, changes),
        exceptions=tuple(dict.fromkeys(_exception(change) for change in changes)),
        changes=tuple(changes),
        conversations=tuple(tested),
    )


def _verdict(tested: list[TestedConversation], changes: list[TemplateChange]) -> Verdict:
    if all(result.outcome in ("refused", "unknown") for result in tested):
        return "not_rendered"
    # templates for tool use alone refuse conversations without tools
    base = _BASE if tested[0].outcome != "refused" else _BASE_WITH_TOOLS
    if any(change.feature in base and change.kind == "prompt" for change in changes):
        return "unstable"
    return "stable_except" if changes else "stable"


def _exception(change: TemplateChange) -> str:
    match change.kind:
        case "clock":
            return "the date"
        case "generation_prompt":
            return "the generation prompt"
        case "answer" if change.feature in _BASE:
            return "the last answer"
    return change.feature


def _signature(change: TemplateChange) -> tuple[object, ...]:
    """Changes with one signature are one and the same: one line of the template, or one generation prompt."""
    if change.kind == "generation_prompt":
        return (change.kind,)
    return change.kind, change.template_line or (change.lost, change.replaced)


def _test(renderer: Renderer, conversation: Conversation) -> tuple[TestedConversation, Conversation]:
    """The outcome, and the form of the conversation that the template took."""
    feature = conversation.feature
    words = conversation.needs
    if words and not any(re.search(rf"\b{re.escape(w)}", renderer.template.text) for w in words):
        return TestedConversation(feature, "unknown", None, 0, 0, 0), conversation
    try:
        pairs, requests = differing_pairs(renderer, conversation)
    except RefusedError as error:
        for variant in conversation.variants:
            result, usable = _test(renderer, replace(variant, variants=()))
            if result.outcome != "refused":
                return result, usable
        return TestedConversation(feature, "refused", str(error), 0, 0, 0), conversation
    lost = sum(len(pair.earlier) - pair.position for pair in pairs)
    characters = sum(map(len, requests))
    outcome: Outcome = "changes" if pairs else "stable"
    return TestedConversation(feature, outcome, None, len(requests), lost, characters), conversation


def _smallest(renderer: Renderer, conversation: Conversation) -> Iterator[TemplateChange]:
    """For each kind of change the smallest part of the conversation that shows it."""
    pairs, _ = differing_pairs(renderer, conversation)
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        small = shrink(renderer, conversation, kind)
        found, _ = differing_pairs(renderer, small)
        worst = max((p for p in found if p.kind == kind), key=lambda p: len(p.earlier) - p.position)
        yield describe(renderer, small, worst)


def _clock(renderer: Renderer) -> TemplateChange | None:
    """What a template writes of the date, tried with two dates."""
    if not re.search(r"\bstrftime_now\b", renderer.template.text):
        return None
    first, second = datetime(2026, 1, 1, 10, 11, 12), datetime(2025, 12, 31, 21, 22, 23)
    for conversation in conversations():
        count = next(conversation.requests())
        messages, tools = conversation.messages[:count], conversation.tools
        earlier = renderer.trace(messages, tools, generation_prompt=True, now=first)
        later = renderer.trace(messages, tools, generation_prompt=True, now=second)
        if earlier is None or later is None or earlier.text == later.text:
            continue
        position = shared_length(earlier.text, later.text)
        pair = Pair("clock", count, True, earlier.text, later.text, position, first)
        return describe(renderer, replace(conversation, messages=messages), pair)
    return None


def with_proof(findings: list[Finding], model: str | None, notify: Callable[[str], None]) -> list[Finding]:
    """The same findings; where the template is to blame the advice names its line, if that is proved."""
    if model is None or all(finding.kind != _FINDING for finding in findings):
        return findings
    try:
        proofs = [prove_template(template) for template in load_templates(model, notify)]
    except RadixCacheError:
        return findings
    lines = [
        f"Proved on made-up conversations ({change.feature}): line {change.template_line} of the template, "
        f"{(change.template_text or '').strip()}"
        for proof in proofs
        for change in proof.changes
        if change.kind != "clock" and change.template_line is not None
    ]
    if not lines:
        return findings
    return [
        replace(finding, advice=f"{finding.advice} {lines[0]}") if finding.kind == _FINDING else finding
        for finding in findings
    ]
