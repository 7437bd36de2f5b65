"""Code blocks of a Markdown file, with what the file says they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NEEDS_MODEL = "<!-- needs the model -->"
_FENCE = re.compile(
    r"(?P<mark>" + re.escape(NEEDS_MODEL) + r"\n)?```(?P<kind>\w*)\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        where: file and line of its first line.
        kind: its language.
        code: its text.
        printed: the text block that follows it, what the code prints; None if there is none.
        needs_model: whether it is marked so.
    """

    where: str
    kind: str
    code: str
    printed: str | None
    needs_model: bool


def blocks(file: Path, kind: str) -> list[Block]:
    """The blocks of a kind in a file, in order."""
    text = file.read_text(encoding="utf-8")
    return [
        Block(
            f"{file.name}:{text.count(chr(10), 0, found.start('code'))}",
            found["kind"],
            found["code"],
            found["printed"],
            found["mark"] is not None,
        )
        for found in _FENCE.finditer(text)
        if found["kind"] == kind
    ]


def commands(block: Block) -> list[str]:
    """The lines of a console block that run radixcache, without their comments."""
    lines = [line.removeprefix("$ ").split(" #")[0].strip() for line in block.code.splitlines()]
    return [line for line in lines if line.split()[0] == "radixcache"]
