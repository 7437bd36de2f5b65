"""A tokenizer whose files say all there is to it, run without transformers and torch.

transformers and torch take seconds to import. What it takes to turn text into token ids is in
`tokenizer.json`, and the chat template is a text; only tokenizers whose class adds something of its own, and
templates that use what transformers adds to Jinja, need transformers itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radixcache.errors import ModelError
from radixcache.models.tokenizer_files import ChatTemplates, chat_templates, read_tokenizer_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["PlainTokenizer"]

_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
_CHANGING_KEYS = ("add_bos_token", "add_eos_token", "add_prefix_space", "split_special_tokens")
_SPECIAL_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# What transformers adds for templates: a tag, other names for reasoning, a dict type.
_EXTENDED_TEMPLATE = re.compile(r"\bgeneration\b|reasoning|thinking|\bdict\b|\bdocuments\b")


class PlainTokenizer:
    """Has the part of a transformers tokenizer's interface that turns prompts into token ids.

    Attributes:
        chat_template: the template, templates by name, or None.
    """

    def __init__(
        self, backend: Tokenizer, chat_template: ChatTemplates, special_tokens: dict[str, str]
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._special_tokens = special_tokens
        self.chat_template = chat_template

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """What does the work, under the name that transformers has for it."""
        return self._backend

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The named special tokens, `bos_token` and the like, as templates are given them."""
        return self._special_tokens

    @classmethod
    def open(cls, folder: Path) -> PlainTokenizer | None:
        """The tokenizer in a model's folder, or None if it takes transformers to run it.

        Raises:
            ModelError: its files cannot be read.
        """
        file = folder / "tokenizer.json"
        config = read_tokenizer_config(folder)
        if config is None or not file.is_file() or (folder / "additional_chat_templates").exists():
            return None
        if config.get("tokenizer_class") not in _PLAIN_CLASSES or any(
            key in config for key in _CHANGING_KEYS
        ):
            return None
        template = chat_templates(config.get("chat_template"), str(folder))
        texts = template.values() if isinstance(template, dict) else [template or ""]
        if any(_EXTENDED_TEMPLATE.search(text) for text in texts):
            return None

        from tokenizers import Tokenizer

        try:
            backend = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{file}: cannot be read: {error}") from None
        return cls(backend, template, _special_tokens(config))

    def encode(self, text: str, *, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:  # noqa: ARG002
        """Token ids of a text; `verbose` is there for the sake of the interface."""
        # The batch form leaves out the offsets of tokens in the text, which nobody asks for here.
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoding.ids)

    def apply_chat_template(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        chat_template: str,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> str:
        """The text of a conversation; `tokenize` must be False.

        Raises:
            TemplateLimitError: the template would take too much time or memory.
            jinja2.TemplateError: the template refuses the messages, or cannot be compiled.
        """
        from radixcache.prompts.sandbox import render_template

        assert not tokenize
        return render_template(
            chat_template, messages, tools, self._special_tokens, generation_prompt=add_generation_prompt
        )


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """The named special tokens, each logged as a text or as an object with its content."""
    found = {}
    for name in _SPECIAL_TOKENS:
        token = config.get(f"{name}_token")
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            found[f"{name}_token"] = content
    return found
