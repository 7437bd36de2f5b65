"""The one way from text and messages to token ids.

`ChatRenderer` turns messages and tools into text, `PromptEncoder` messages, texts and logged requests into
token ids; the engine's chat, replay, simulate and the doctor all use them.
"""

from __future__ import annotations

from radixcache.prompts.messages import Message, check_messages
from radixcache.prompts.template import ChatRenderer, EncodeError, Rendered, choose_template
from radixcache.prompts.text import check_text, encode_text

__all__ = [
    "ChatRenderer",
    "EncodeError",
    "Message",
    "Rendered",
    "check_messages",
    "check_text",
    "choose_template",
    "encode_text",
]
