"""A folder's tokenizer_config.json may hold anything; what is no tokenizer's is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radixcache.cli import main
from radixcache.errors import ModelError
from radixcache.models.load import load_model
from radixcache.models.plain_tokenizer import PlainTokenizer
from radixcache.models.tokenizing import load_tokenizer
from tests.models.test_gguf import tiny_llama

DEEP = "[" * 100_000 + "]" * 100_000
BROKEN = ["[]", '"x"', "5", "null", DEEP, '{"a":' + DEEP + "}", "{"] + [
    json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template})
    for template in (
        5,
        True,
        [5],
        [{"name": "a"}],
        [{"template": "a"}],
        [{"name": 1, "template": "a"}],
        {"a": 5},
    )
]
PLAIN = '{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}'


def folder_with(folder: Path, config: str) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(PLAIN)
    (folder / "tokenizer_config.json").write_text(config)
    return folder


@pytest.mark.parametrize("config", BROKEN, ids=range(len(BROKEN)))
def test_broken_files_are_refused_in_one_line_that_names_the_folder(tmp_path: Path, config: str) -> None:
    folder = folder_with(tmp_path / "broken", config)
    tiny_llama().save_pretrained(folder)
    for load in (load_tokenizer, load_model):
        with pytest.raises(ModelError) as error:
            load(str(folder))
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", BROKEN, ids=range(len(BROKEN)))
def test_no_command_ends_in_a_traceback(
    tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path / "broken", config)
    log = tmp_path / "log.jsonl"
    log.write_text('{"prompt":"a"}\n')
    for command in (["simulate", str(log), "--tokenizer"], ["doctor", "--template"]):
        assert main([*command, str(folder)]) != 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert str(folder)[:40] in captured.err.replace("\n", "")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, None),
        ("a", "a"),
        ({"x": "a"}, {"x": "a"}),
        ([{"name": "x", "template": "a"}, {"name": "y", "template": "b"}], {"x": "a", "y": "b"}),
    ],
)
def test_templates_in_every_form_are_read(
    tmp_path: Path, template: object, expected: str | dict[str, str] | None
) -> None:
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    folder = folder_with(tmp_path / "good", json.dumps(fields))
    assert load_tokenizer(str(folder)).chat_template == expected
    assert PlainTokenizer.open(folder) is not None
