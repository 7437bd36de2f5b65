"""Python code that comes with a model is never run, whatever a piped log says."""

from __future__ import annotations

import builtins
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from radixcache.cli import main
from radixcache.errors import ModelError
from radixcache.models.gguf_folders import gguf_folder
from radixcache.models.load import load_model
from radixcache.models.tokenizing import load_tokenizer
from tests.models.test_gguf import tiny_llama, write_gguf

LOG = b'{"prompt":"hello world"}\ny\ny\nyes\n1\n{"prompt":"hello there"}\n'
MAPS = {
    "AutoConfig": "custom.Config",
    "AutoModelForCausalLM": "custom.Model",
    "AutoTokenizer": ["custom.Tokenizer", None],
}
COMMANDS = [
    ["simulate", "-", "--tokenizer"],
    ["curve", "-", "--tokenizer"],
    ["doctor", "-", "--tokenizer"],
    ["replay", "-", "--model"],
    ["doctor", "--template"],
]


class Watch:
    """A model folder whose code leaves a mark, and what asked on standard input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = folder / "was_run"
        self.questions: list[object] = []

    def write(self, config: dict[str, Any] | None, tokenizer: dict[str, Any] | None) -> None:
        for name, fields in (("config.json", config), ("tokenizer_config.json", tokenizer)):
            if fields is not None:
                (self.folder / name).write_text(json.dumps(fields))
        code = f"import pathlib\npathlib.Path({str(self.mark)!r}).touch()\n"
        code += "class Config: pass\nclass Model: pass\nclass Tokenizer: pass\n"
        (self.folder / "custom.py").write_text(code)
        (self.folder / "custom_generate").mkdir()
        (self.folder / "custom_generate" / "generate.py").write_text(code)

    def silent(self) -> bool:
        return not self.mark.exists() and not self.questions


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    folder = tmp_path / "model"
    folder.mkdir()
    watch = Watch(folder)
    ask = builtins.input

    def input_(prompt: object = "") -> str:
        watch.questions.append(prompt)
        return ask(prompt)

    monkeypatch.setattr(builtins, "input", input_)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return watch


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("model_type", ["llama", "of_its_own", None])
def test_no_command_runs_or_asks(
    watch: Watch,
    command: list[str],
    model_type: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = {} if model_type is None else {"model_type": model_type}
    if model_type == "llama":
        tiny_llama().save_pretrained(watch.folder)
        kind = json.loads((watch.folder / "config.json").read_text())
    template = {"chat_template": "{{ messages }}", "tokenizer_class": "OfItsOwn"}
    watch.write({**kind, "auto_map": MAPS}, {**template, "auto_map": MAPS})
    (watch.folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LOG)))
    status = main([*command, str(watch.folder)])
    out, err = capsys.readouterr()
    assert watch.silent()
    assert status != 0
    assert "Traceback" not in out + err
    assert "never run" in err


@pytest.mark.parametrize("auto_map", [MAPS, [None, "custom.Tokenizer"], {"AutoTokenizer": 5}, "x"])
def test_a_tokenizer_that_needs_code_is_refused_in_one_line(watch: Watch, auto_map: object) -> None:
    watch.write(None, {"tokenizer_class": "OfItsOwn", "auto_map": auto_map})
    with pytest.raises(ModelError) as error:
        load_tokenizer(str(watch.folder))
    assert str(watch.folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert watch.silent()


def test_a_model_that_needs_code_is_refused_with_the_reason(watch: Watch) -> None:
    watch.write({"model_type": "of_its_own", "auto_map": MAPS}, None)
    with pytest.raises(ModelError, match=r"needs Python code that comes with it \(auto_map\)") as error:
        load_model(str(watch.folder), device="cpu", dtype="float32")
    assert "\n" not in str(error.value)
    assert watch.silent()


def test_a_model_that_transformers_knows_is_loaded_without_its_folders_code(watch: Watch) -> None:
    tiny_llama().save_pretrained(watch.folder)
    watch.write(json.loads((watch.folder / "config.json").read_text()) | {"auto_map": MAPS}, None)
    load_model(str(watch.folder), device="cpu", dtype="float32")
    assert watch.silent()


def test_code_beside_a_gguf_file_is_not_run(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIXCACHE_HOME", str(watch.folder / "home"))
    watch.write({"model_type": "of_its_own", "auto_map": MAPS}, {"auto_map": MAPS})
    folder = gguf_folder(write_gguf(watch.folder / "tiny.gguf", tiny_llama()), lambda _line: None)
    assert (folder / "model.safetensors").is_file()
    assert watch.silent()


def test_a_pickle_that_runs_code_is_not_loaded(watch: Watch) -> None:
    import pickle

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (watch.mark,)

    tiny_llama().config.save_pretrained(watch.folder)
    (watch.folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError) as error:
        load_model(str(watch.folder), device="cpu", dtype="float32")
    assert "\n" not in str(error.value)
    assert watch.silent()
