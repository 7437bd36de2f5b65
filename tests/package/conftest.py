"""The wheel, built once, and the core installed once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.package.environments import Environment, build, install, make_environment

_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel in a bare environment, without an extra."""
    environment = make_environment(tmp_path_factory.mktemp("core"))
    install(environment, str(wheel))
    return environment


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer and a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": _TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def token_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prompts of 40 token ids that share 32."""
    file = tmp_path_factory.mktemp("log") / "ids.jsonl"
    prompts = [[*range(32), *range(first, first + 8)] for first in (100, 200)]
    file.write_text("".join(json.dumps({"prompt_token_ids": ids}) + "\n" for ids in prompts))
    return file


@pytest.fixture(scope="session")
def text_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two conversations that share a system prompt of 64 bytes."""
    file = tmp_path_factory.mktemp("log") / "chat.jsonl"
    system = {"role": "system", "content": "s" * 64}
    turns = [{"role": "user", "content": text} for text in ("alpha", "beta")]
    file.write_text("".join(json.dumps({"messages": [system, turn]}) + "\n" for turn in turns))
    return file
