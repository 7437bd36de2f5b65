"""Tokenizers without transformers: the same token ids, and None where it takes transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from radixcache.errors import ModelError
from radixcache.models.embedded import embedded_folder
from radixcache.models.plain_tokenizer import PlainTokenizer
from radixcache.models.tokenizing import load_tokenizer

EXAMPLE_LOG = Path(__file__).resolve().parents[2] / "examples" / "logs" / "assistant.jsonl"
TEMPLATE = (
    "{% for m in messages %}\n{{ bos_token }}{{ m.role }}: {{ m.content }}\n"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}"
    "{% if tools %}{{ tools | tojson(indent=1) }}{% endif %}"
    "{% if messages[0].role == 'bad' %}{{ raise_exception('no such role') }}{% endif %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
MESSAGES = [{"role": "user", "content": "Grüße <b> 1234 🙂"}, {"role": "assistant", "content": "ok"}]
TOOLS = [{"type": "function", "function": {"name": "näh", "parameters": {"a": "<b>"}}}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer that adds a special token before every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, **{letter: i for i, letter in enumerate(alphabet, start=1)}}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.add_special_tokens(["<s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, **changes: Any) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": {"content": "<s>"}}
    config |= {"chat_template": TEMPLATE, **changes}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_same_ids_and_texts_as_transformers(folder: Path) -> None:
    configure(folder, bos_token="<s>")
    plain = PlainTokenizer.open(folder)
    assert plain is not None
    stock: Any = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("", "a", "Grüße <s> 1234 🙂\n\n x", "<s>"):
        for special in (True, False):
            assert plain.encode(text, add_special_tokens=special, verbose=False) == stock.encode(
                text, add_special_tokens=special
            )
    for tools in (None, TOOLS):
        for prompt in (True, False):
            options: Any = {"tools": tools, "tokenize": False, "add_generation_prompt": prompt}
            assert plain.apply_chat_template(
                MESSAGES, chat_template=TEMPLATE, **options
            ) == stock.apply_chat_template(MESSAGES, chat_template=TEMPLATE, **options)


def test_a_special_token_may_be_an_object(folder: Path) -> None:
    plain = PlainTokenizer.open(folder)
    assert plain is not None
    text = plain.apply_chat_template(
        MESSAGES[:1], tools=None, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=False
    )
    assert text == "<s>user: Grüße <b> 1234 🙂\n"


def test_a_template_may_refuse(folder: Path) -> None:
    plain = PlainTokenizer.open(folder)
    assert plain is not None
    with pytest.raises(jinja2.TemplateError, match="no such role"):
        plain.apply_chat_template(
            [{"role": "bad", "content": ""}],
            tools=None,
            chat_template=TEMPLATE,
            tokenize=False,
            add_generation_prompt=True,
        )


def test_a_template_of_its_own_file_and_templates_by_name(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("from the file")
    assert PlainTokenizer.open(folder).chat_template == "from the file"  # type: ignore[union-attr]
    (folder / "chat_template.jinja").unlink()
    configure(folder, chat_template=[{"name": "default", "template": "x"}])
    assert PlainTokenizer.open(folder).chat_template == {"default": "x"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"add_bos_token": True},
        {"chat_template": "{% generation %}x{% endgeneration %}"},
        {"chat_template": "{{ messages[0].reasoning_content }}"},
    ],
)
def test_what_takes_transformers_is_left_to_it(folder: Path, changes: dict[str, Any]) -> None:
    configure(folder, **changes)
    assert PlainTokenizer.open(folder) is None


def test_damaged_files_are_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read"):
        PlainTokenizer.open(folder)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match="its tokenizer cannot be read"):
        load_tokenizer(str(folder))


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder without a tokenizer"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ModelError, match="no such file or folder"):
        load_tokenizer(str(tmp_path / "gone"))


@pytest.mark.model
def test_the_embedded_tokenizer_needs_neither_torch_nor_transformers() -> None:
    embedded_folder(lambda _line: None)
    code = (
        "import sys\n"
        "from radixcache.logs import read_logs\n"
        "from radixcache.models.tokenizing import load_tokenizer\n"
        "from radixcache.prompts.encode import PromptEncoder\n"
        "encoder = PromptEncoder(load_tokenizer('smollm2-135m'), 'smollm2-135m')\n"
        f"print(sum(len(encoder.encode(r)) for r in read_logs([{str(EXAMPLE_LOG)!r}])))\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tokens, heavy = done.stdout.splitlines()
    assert int(tokens) > 50_000
    assert heavy == "[]"
