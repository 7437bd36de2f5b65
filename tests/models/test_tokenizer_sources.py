"""Where a tokenizer comes from when neither torch nor transformers is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from radixcache.errors import MissingExtraError, ModelError
from radixcache.models import hub
from radixcache.models.gguf_folders import gguf_folder, gguf_tokenizer_folder
from radixcache.models.plain_tokenizer import PlainTokenizer
from radixcache.models.tokenizing import load_tokenizer
from tests.models.test_gguf import tiny_llama, write_gguf

NAME = "somebody/a-model"


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the extra `engine` is installed, nothing is converted yet, and the Hub is unreachable."""
    monkeypatch.setattr("radixcache.extras.find_spec", lambda name: None)
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "home"))

    class Dead:
        def head(self, url: str, timeout: float) -> None:
            raise OSError("no route")

    monkeypatch.setattr(hub, "get_session", Dead)


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", tiny_llama())


def cached_hub_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path) -> None:
    """A model's tokenizer in the Hub's cache, as its client lays it out."""
    repository = tmp_path / "hub" / "models--somebody--a-model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123")
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for file in source.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("no_engine")
def test_the_tokenizer_of_a_gguf_file_needs_no_conversion(gguf_file: Path) -> None:
    tokenizer = load_tokenizer(str(gguf_file))
    assert isinstance(tokenizer, PlainTokenizer)
    ids = tokenizer.encode("the cat")
    assert ids
    with pytest.raises(MissingExtraError, match=r'converting tiny\.gguf needs .*"radixcache\[engine\]"'):
        gguf_folder(gguf_file, lambda _line: None)


def test_its_ids_and_template_are_the_converted_models(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RADIXCACHE_HOME", str(tmp_path / "home"))
    alone = gguf_tokenizer_folder(gguf_file, lambda _line: None)
    converted = gguf_folder(gguf_file, lambda _line: None)
    assert alone != converted
    assert gguf_tokenizer_folder(gguf_file, lambda _line: None) == converted
    first, second = PlainTokenizer.open(alone), PlainTokenizer.open(converted)
    assert first is not None
    assert second is not None
    assert first.chat_template == second.chat_template
    for text in ("the in", "<|im_start|>x", " 123é\n"):
        assert first.encode(text) == second.encode(text)


@pytest.mark.usefixtures("no_engine")
def test_a_hub_models_tokenizer_is_taken_from_the_hubs_cache(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached_hub_model(monkeypatch, tmp_path, gguf_tokenizer_folder(gguf_file, lambda _line: None))
    tokenizer = load_tokenizer(NAME)
    assert isinstance(tokenizer, PlainTokenizer)
    assert tokenizer.encode("the cat") == load_tokenizer(str(gguf_file)).encode("the cat")


@pytest.mark.usefixtures("no_engine")
def test_an_unreachable_hub_is_named_without_transformers_too() -> None:
    with pytest.raises(ModelError, match=r"'nobody/no-model-of-this-name' .*the Hub is unreachable"):
        load_tokenizer("nobody/no-model-of-this-name")


@pytest.mark.parametrize(
    "statement",
    [
        "from radixcache.models.tokenizing import load_tokenizer",
        "from radixcache.models.configs import read_config",
        "from radixcache.models.gguf import read_gguf",
        "import radixcache.cli.simulate, radixcache.cli.curve, radixcache.cli.plan, radixcache.cli.doctor",
    ],
)
def test_log_tools_import_neither_torch_nor_transformers(statement: str) -> None:
    code = f"import sys; {statement}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_missing_module_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from radixcache.extras import require_extra

    present: set[Any] = {"torch"}
    monkeypatch.setattr("radixcache.extras.find_spec", lambda name: name if name in present else None)
    with pytest.raises(
        MissingExtraError,
        match=r'^x needs transformers, accelerate and safetensors: pip install "radixcache\[engine\]"$',
    ):
        require_extra("engine", "x")
    require_extra("engine", "x", modules=["torch"])
