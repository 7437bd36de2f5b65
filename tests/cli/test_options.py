"""Sizes as people write them, and what the help says of them."""

from __future__ import annotations

import pytest

from radixcache.cache.eviction import policies
from radixcache.cli import main
from radixcache.cli.options import POLICIES
from radixcache.plan.shape import DTYPE_BITS
from radixcache.sizes import parse_bytes, parse_context, parse_count


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GB", 80 * 10**9),
        ("80gib", 80 * 2**30),
        ("80 G", 80 * 10**9),
        ("1.5TiB", 3 * 2**39),
        ("512MiB", 2**29),
        ("900kB", 900_000),
        ("1,048,576", 2**20),
        ("17 B", 17),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert parse_bytes("m", text) == size


@pytest.mark.parametrize("text", ["80", "1", "24", "1,048,575", "0.5"])
def test_memory_without_a_unit_is_asked_for_one(text: str) -> None:
    with pytest.raises(ValueError, match=f"m must have a unit, such as {text}GB or {text}GiB, got '{text}'"):
        parse_bytes("m", text)


@pytest.mark.parametrize("text", ["9" * 40, "1e9GB", "nan", "inf", "-1GB", "2000000TB", "80ib", "9" * 5000])
def test_memory_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^m must be"):
        parse_bytes("m", text)


def test_counts_have_a_most() -> None:
    assert (parse_count("n", "10k"), parse_count("n", "1.5M"), parse_context("c", "10k")) == (
        10_000,
        1_500_000,
        10_240,
    )
    for text in ("9" * 20, "3G", "2147483648"):
        with pytest.raises(ValueError, match="n must be at most 2,147,483,647, got "):
            parse_count("n", text)
    with pytest.raises(ValueError, match="c must be from 1 to"):
        parse_context("c", "9000M")


def test_the_help_names_every_policy_and_only_known_types() -> None:
    assert POLICIES.split(", ") == sorted(policies)


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "--block-size", "9" * 20),
        ("simulate", "--capacity", "9" * 20),
        ("simulate", "--repeat", "9" * 20),
        ("simulate", "--trace-block", "9" * 20),
        ("simulate", "--max-line", "9" * 30),
        ("simulate", "--limit", "9" * 20),
        ("curve", "--bytes-per-token", "9" * 20),
        ("doctor", "--block-size", "9" * 20),
        ("doctor", "--interleave", "9" * 20),
        ("replay", "--cache-tokens", "9" * 20),
        ("replay", "--cache-memory", "9" * 30),
        ("replay", "--cache-memory", "4"),
        ("replay", "--max-tokens", "9" * 20),
        ("replay", "--concurrency", "9" * 20),
    ],
)
def test_absurd_sizes_are_one_line_that_names_the_option(
    arguments: tuple[str, str, str], capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    command, option, value = arguments
    assert main([command, f"{tmp_path}/nowhere.jsonl", option, value]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {option} must ")
    assert err.count("\n") == 1


COMMANDS = ("replay", "simulate", "curve", "plan", "doctor", "template", "report", "convert", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_and_plain_names(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"\n    radixcache {command}" in out
    assert "list[" not in out
    assert "{" not in out.splitlines()[0]


def test_the_list_of_commands_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    assert "..." not in listed
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == list(COMMANDS)


def test_types_in_the_help_are_known() -> None:
    from radixcache.cli.options import DTYPES

    assert set(DTYPES.split(", ")) <= set(DTYPE_BITS)
