"""What was proved of chat templates, for the terminal. All text of a template goes through `visible`."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from radixcache.doctor.template.results import TemplateChange, TemplateProof
from radixcache.files import writing
from radixcache.report.text import visible
from radixcache.version import __version__

__all__ = ["SCHEMA", "print_proofs", "write_proofs"]

SCHEMA = "radixcache.template/1"

_STYLES = {"stable": "bold green", "stable_except": "bold yellow", "unstable": "bold red"}
_MEANINGS = {
    "prompt": "an earlier request is rendered differently once the next turn is there; all after it is lost",
    "generation_prompt": "the generation prompt differs from how the answer begins later; the answer is lost",
    "answer": "an answer is rendered differently once the next turn is there; the answer is lost",
    "clock": "the prompt changes with the date; all after it is lost",
}


def write_proofs(proofs: Sequence[TemplateProof], path: Path) -> None:
    """Write the proofs as one JSON object.

    Raises:
        ValueError: naming the path, if it cannot be written.
    """
    versions = {"python": platform.python_version(), "radixcache": __version__}
    document = {"schema": SCHEMA, "templates": [asdict(proof) for proof in proofs], "versions": versions}
    with writing(path) as file:
        json.dump(document, file, indent=2, allow_nan=False)
        file.write("\n")


def print_proofs(proofs: Sequence[TemplateProof], console: Console) -> None:
    """Print the verdict of each template, and what breaks it where."""
    for proof in proofs:
        console.print(_headline(proof), soft_wrap=True)
        for change in proof.changes:
            console.print()
            for line in _change(change):
                console.print(line, soft_wrap=True)
        console.print()
        for note in _notes(proof):
            console.print(note, soft_wrap=True)


def _headline(proof: TemplateProof) -> Text:
    words = proof.verdict.replace("_", " ")
    if proof.verdict == "stable_except":
        words += f" {', '.join(proof.exceptions)}"
    elif proof.verdict == "unstable":
        words += f": {', '.join(proof.exceptions)}"
    name = Text(visible(proof.name, 120), style="bold")
    return name + Text(": ") + Text(words, style=_STYLES.get(proof.verdict, "bold"))


def _change(change: TemplateChange) -> list[Text]:
    cost = f"{change.lost_characters:,} of {change.kept_characters + change.lost_characters:,} characters"
    if change.lost_tokens is not None:
        cost += f", {change.lost_tokens:,} tokens"
    lines = [
        Text.assemble((change.feature, "bold yellow"), f": {_MEANINGS[change.kind]} ({cost} here)"),
        Text.assemble(("  conversation  ", "dim"), _conversation(change)),
        Text.assemble(("  text of       ", "dim"), _place(change)),
        Text.assemble(
            ("  earlier       ", "dim"),
            (f"…{visible(change.before)}", "dim"),
            (visible(change.lost, 200), "red"),
        ),
        Text.assemble(
            ("  later         ", "dim"),
            (f"…{visible(change.before)}", "dim"),
            (visible(change.replaced, 200), "green"),
            (f"{visible(change.after)}…", "dim"),
        ),
    ]
    if change.template_line is not None:
        text = visible(change.template_text or "", 100)
        lines.append(
            Text.assemble(("  template      ", "dim"), f"line {change.template_line}: ", (text, "dim"))
        )
    return lines


def _conversation(change: TemplateChange) -> str:
    """`user, assistant (reasoning, tool call) | user`, cut where the earlier rendering ended."""
    words = ["tools; "] if change.with_tools else []
    for index, message in enumerate(change.messages):
        marks = ["reasoning"] if message.get("reasoning_content") else []
        marks += ["tool call"] if message.get("tool_calls") else []
        text = str(message["role"]) + (f" ({', '.join(marks)})" if marks else "")
        words.append(("" if not index else " | " if index == change.request else ", ") + text)
    return "".join(words)


def _place(change: TemplateChange) -> str:
    if change.kind == "generation_prompt":
        return "the generation prompt"
    if change.message is None or change.message < 0:
        return "the tools"
    return f"message {change.message} ({change.role})"


def _notes(proof: TemplateProof) -> list[Text]:
    notes = []
    for outcome, words in (
        ("stable", "stable with"),
        ("changes", "changes with"),
        ("unknown", "unknown to the template"),
    ):
        features = [c.feature for c in proof.conversations if c.outcome == outcome]
        if features:
            notes.append(Text(f"{words}: {', '.join(features)}", style="dim"))
    notes += [
        Text(f"refused: {c.feature}: {visible(c.reason or '', 200)}", style="dim")
        for c in proof.conversations
        if c.outcome == "refused"
    ]
    return notes
