"""The one way from text and messages to token ids."""

from __future__ import annotations

from radixcache.prompts.messages import Message, normalise, place_tools
from radixcache.prompts.plain import PlainText
from radixcache.prompts.template import choose_template
from radixcache.prompts.text import check_text, encode_text

__all__ = [
    "Message",
    "PlainText",
    "check_text",
    "choose_template",
    "encode_text",
    "normalise",
    "place_tools",
]
