"""Small tokenizers of the kinds that models have, each with a first token and the marks of a turn."""

from __future__ import annotations

from functools import cache
from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer

FIRST = "<s>"
MARKS = ("<|im_start|>", "<|im_end|>")
TEXTS = [
    "user\nassistant\nsystem\nthe cat and the hat, im_start and im_end\n\nand 12 more; it is < or > |"
] * 3
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KINDS = ("byte-level", "byte-level, blanks taken in", "unigram", "not flagged as special")


@cache
def tokenizer(kind: str) -> Any:
    """A fast tokenizer that adds its first token, with a template that writes it itself."""
    added = [FIRST, *MARKS]
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
        trainer: Any = UnigramTrainer(vocab_size=200, special_tokens=["<unk>", FIRST], unk_token="<unk>")
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[FIRST])
    backend.train_from_iterator(TEXTS, trainer)
    flags = {"lstrip": True, "rstrip": True} if kind == "byte-level, blanks taken in" else {}
    marks: list[Any] = [AddedToken(mark, normalized=False, **flags) for mark in MARKS]
    if kind == "not flagged as special":
        backend.add_tokens(marks)
    else:
        backend.add_special_tokens(marks)
    first = backend.token_to_id(added[0])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A", special_tokens=[(FIRST, first)]
    )
    make: Any = transformers.PreTrainedTokenizerFast
    wrapped = make(tokenizer_object=backend, bos_token=FIRST, clean_up_tokenization_spaces=False)
    wrapped.chat_template = TEMPLATE
    return wrapped
