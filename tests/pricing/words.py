"""A tokenizer for which every word is a token, so that prompts can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}"
    "[{{ m.role }}] {{ m.content }} [end] "
    "{% if loop.first and tools %}[tools] {% for t in tools %}{{ t.function.name }} {% endfor %}[/tools] "
    "{% endif %}{% endfor %}[assistant]"
)
"""A message is its words and two more, tools follow the first message, and one word asks for the answer."""


def word_tokenizer(folder: Path, words: str) -> Path:
    """Write it into a new folder, with the words that it knows."""
    known = ["?", "[system]", "[user]", "[assistant]", "[end]", "[tools]", "[/tools]", *words.split()]
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, "unk_token": "?"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
