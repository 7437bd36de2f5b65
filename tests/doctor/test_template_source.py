"""Where chat templates are read from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radixcache.doctor.template.source import load_templates
from radixcache.errors import ModelError

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"


def test_a_jinja_file_with_special_tokens_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "some.jinja"
    file.write_text(TEMPLATE)
    (alone,) = load_templates(str(file))
    assert (alone.name, alone.text, alone.encode) == (str(file), TEMPLATE, None)
    assert alone.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    config = {"bos_token": {"content": "<b>"}, "eos_token": None, "pad_token": "<p>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (found,) = load_templates(str(file))
    assert found.special_tokens == {"bos_token": "<b>", "eos_token": "</s>", "pad_token": "<p>"}


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_json_files(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(json.dumps({"chat_template": TEMPLATE}))
    assert [t.text for t in load_templates(str(file))] == [TEMPLATE]
    both = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "x" + TEMPLATE}]
    file.write_text(json.dumps({"chat_template": both}))
    assert [(t.name, t.text) for t in load_templates(str(file))] == [
        (f"{file} (default)", TEMPLATE),
        (f"{file} (tool_use)", "x" + TEMPLATE),
    ]


def test_a_folder_prefers_the_template_of_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old", "eos_token": "<e>"}))
    assert [t.text for t in load_templates(str(tmp_path))] == ["old"]
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    (found,) = load_templates(str(tmp_path))
    assert (found.name, found.text, found.special_tokens) == (str(tmp_path), TEMPLATE, {"eos_token": "<e>"})


def test_a_gguf_file_holds_templates_by_name(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    file = tmp_path / "vocabulary.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_token_list(["<unk>", "<s>", "</s>"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(
        [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "x"}]
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = load_templates(str(file))
    assert {t.name: t.text for t in found} == {f"{file} (default)": TEMPLATE, f"{file} (tool_use)": "x"}
    assert found[0].special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_what_holds_no_template_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    for text, message in [
        ("{}", "has no chat template"),
        ('{"chat_template": " "}', "has no chat template"),
        ("[]", "has no chat template"),
        ("{", r"tokenizer_config\.json: cannot be read"),
    ]:
        config.write_text(text)
        for place in (config, tmp_path):
            with pytest.raises(ModelError, match=message):
                load_templates(str(place))
    for name in ("gone.jinja", "gone.json", "gone.gguf"):
        with pytest.raises(ModelError, match=f"{name}: no such file"):
            load_templates(str(tmp_path / name))
    config.unlink()
    (tmp_path / "bad.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"bad\.jinja: cannot be read"):
        load_templates(str(tmp_path / "bad.jinja"))
    (tmp_path / "bad.gguf").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"bad\.gguf: is not a GGUF file"):
        load_templates(str(tmp_path / "bad.gguf"))
