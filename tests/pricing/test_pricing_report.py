"""Prices in the terminal, and as options of `radixcache doctor`."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from radixcache.cli import main
from radixcache.pricing import Prices, SelfHosted, load_pricing, price_log
from radixcache.report.terminal.pricing import money, print_pricing
from tests.pricing.tables import table
from tests.simulate.workloads import workload


def shown() -> str:
    log = workload(range(3000), range(3000))
    losing = table(name="loss", prices=Prices(10.0, 1.0, 30.0, 100.0), marking="breakpoints", minimum=3001)
    evil = replace(losing, name="e\x1b[31mvil", note="no\x1b[2Jte")
    report = price_log(log, [table(name="saving"), evil], self_hosted=SelfHosted(2.0, 100.0))
    console = Console(file=StringIO(), width=100)
    print_pricing(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_table_says_what_is_saved() -> None:
    text = shown()
    assert "saving" in text
    assert "$0.0600" in text  # 6,000 tokens at 10 for a million
    assert "$0.0330" in text  # 3,000 of them, and 3,000 at 1
    assert "45.0%" in text
    assert "any length, lifetime not published, automatic" in text
    assert "as of 2026-01-01" in text
    assert "Self-hosted prefill" in text
    assert "requests are assumed to arrive 10 s apart" in text


def test_names_from_a_price_file_cannot_act_on_the_terminal() -> None:
    text = shown()
    assert "\x1b" not in text
    assert "e\\x1b[31mvil" in text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1234.5, "USD", "$1,234"),
        (12.345, "USD", "$12.35"),
        (0.01234, "USD", "$0.0123"),
        (0.0, "USD", "$0.00"),
        (-3.0, "USD", "-$3.00"),
        (4.5, "EUR", "4.50 EUR"),
    ],
)
def test_money(amount: float, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def write_log(folder: Path) -> Path:
    log = folder / "log.jsonl"
    head = list(range(2000))
    lines = [{"prompt_token_ids": [*head, 5000 + i], "output_token_ids": [1, 2]} for i in range(4)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return log


def test_the_doctor_prices_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    options = ["--pricing", "hosted", "--gpu-hour", "2", "--prefill-speed", "1000", "--json", str(report)]
    assert main(["doctor", str(write_log(tmp_path)), *options]) == 0
    assert "What this log costs" in capsys.readouterr().out
    pricing = json.loads(report.read_text())["pricing"]
    assert pricing["prompt_tokens"] == 4 * 2001
    assert pricing["output_tokens"] == 8
    assert [p["name"] for p in pricing["providers"]] == [t.name for t in load_pricing()]
    by_name = {p["name"]: p for p in pricing["providers"]}
    # 2,000 tokens are shared, of which the third and later steps of 128 are
    assert by_name["GPT-5.4, in memory"]["cached_tokens"] == 3 * 1920
    assert by_name["Claude Opus 5, 5 minutes"]["cached_tokens"] == 3 * 2000
    assert by_name["Claude Haiku 4.5, 5 minutes"]["cached_tokens"] == 0
    assert pricing["self_hosted"]["cached_tokens"] == json.loads(report.read_text())["cached_tokens"]
    assert pricing["self_hosted"]["uncached"] == pytest.approx(4 * 2001 / 1000 * 2 / 3600)


def test_prices_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(
        'currency = "EUR"\n[tables.Mine]\ninput = 1\ncache_read = 0.5\noutput = 2\nmarking = "automatic"\n'
        'as_of = 2026-02-03\nsource = "https://example.com"\n'
    )
    assert main(["doctor", str(write_log(tmp_path)), "--pricing", str(prices)]) == 0
    out = capsys.readouterr().out
    assert "Mine" in out
    assert "EUR" in out
    prices.write_text(prices.read_text().replace("input = 1", "input = -1"))
    assert main(["doctor", str(write_log(tmp_path)), "--pricing", str(prices)]) == 2
    assert capsys.readouterr().err == (f"error: {prices}, table 'Mine', input: must be at least 0, got -1\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu-hour", "2"], "--gpu-hour needs --prefill-speed"),
        (["--gpu-hour", "0", "--prefill-speed", "5"], "--gpu-hour must be a finite number above 0, got 0"),
        (["--pricing", "gone.toml"], "gone.toml cannot be read: No such file or directory"),
        (
            ["--pricing", "hosted", "--interval", "-1"],
            "--interval must be a finite number at least 0, got -1",
        ),
    ],
)
def test_what_cannot_be_priced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["doctor", str(write_log(tmp_path)), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_doctor_proves_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, proof = tmp_path / "some.jinja", tmp_path / "proof.json"
    file.write_text("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert main(["doctor", "--template", str(file), "--json", str(proof)]) == 0
    assert "some.jinja: unstable" in capsys.readouterr().out
    assert json.loads(proof.read_text())["templates"][0]["verdict"] == "unstable"
    assert main(["doctor", str(file), "--template", str(file)]) == 2
    assert capsys.readouterr().err == "error: --template takes no log\n"
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "error: a log is needed, or --template\n"
