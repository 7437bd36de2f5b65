"""Which of a tokenizer's chat templates to use."""

from __future__ import annotations

from typing import Any

__all__ = ["choose_template"]


def choose_template(tokenizer: Any, *, with_tools: bool) -> str | None:
    """The source of the chat template, the one for tools if there are several; None if there is none."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        named = template.get("tool_use") if with_tools else None
        template = named or template.get("default")
    return str(template) if template else None
