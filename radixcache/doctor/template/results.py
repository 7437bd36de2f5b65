"""What is proved of a chat template: the schema of its JSON, documented in docs/doctor-template.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Kind", "Outcome", "TemplateChange", "TemplateProof", "TestedConversation", "Verdict"]

Verdict = Literal["stable", "stable_except", "unstable", "not_rendered"]
Outcome = Literal["stable", "changes", "refused", "unknown"]
Kind = Literal["prompt", "generation_prompt", "answer", "clock"]


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """An earlier part that is rendered differently later, in the smallest conversation that shows it.

    Attributes:
        feature: of conversations, that brings it about.
        kind: `prompt` for text of a request that the next request renders differently; `generation_prompt` if
            that is only what stands after the last message to ask for an answer; `answer` for text of an
            answer, as it is rendered when it is the last message; `clock` for text that the time of day
            changes.
        messages: the smallest conversation that shows it.
        with_tools: whether tools were given.
        request: how many of its messages the earlier rendering had.
        message: number of the message in which the text differs, -1 for the tools, None if past them all.
        role: of that message.
        kept_characters, lost_characters: of the earlier rendering: up to the difference, and from there on.
        lost_tokens: the same in tokens; None without a tokenizer.
        before: what stands before the difference.
        lost: what is no longer there.
        replaced: what is there instead.
        after: what follows it in the later rendering.
        template_line: line of the template that wrote what differs, None if that cannot be told.
        template_text: that line.
    """

    feature: str
    kind: Kind
    messages: tuple[dict[str, Any], ...]
    with_tools: bool
    request: int
    message: int | None
    role: str | None
    kept_characters: int
    lost_characters: int
    lost_tokens: int | None
    before: str
    lost: str
    replaced: str
    after: str
    template_line: int | None
    template_text: str | None


@dataclass(frozen=True, slots=True)
class TestedConversation:
    """What became of one kind of conversation.

    Attributes:
        feature: what it has that simpler ones have not.
        outcome: `refused` if the template raised an error, `unknown` if the template does not know of the
            feature at all.
        reason: why it was refused.
        requests: how many requests of it were rendered.
        lost_characters: what changes cost over the whole conversation, of `characters`.
        characters: of all its requests.
    """

    feature: str
    outcome: Outcome
    reason: str | None
    requests: int
    lost_characters: int
    characters: int


@dataclass(frozen=True, slots=True)
class TemplateProof:
    """A template on all conversations.

    Attributes:
        name: of the template.
        verdict: `stable` if nothing changes; `unstable` if a request of plain turns, with or without a system
            prompt, is no longer what it was once the next turn is there; `stable_except` if only other
            things change; `not_rendered` if the template refuses every conversation.
        exceptions: what changes: features of conversations, the generation prompt, the last answer, the date.
        changes: one for each way in which something changes.
        conversations: what was tried.
    """

    name: str
    verdict: Verdict
    exceptions: tuple[str, ...]
    changes: tuple[TemplateChange, ...]
    conversations: tuple[TestedConversation, ...]
