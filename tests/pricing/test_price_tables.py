"""Files of price tables: the shipped one, and what is wrong with others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from radixcache.errors import RadixCacheError
from radixcache.pricing import load_pricing, price_log
from tests.simulate.workloads import workload

GOOD = """
currency = "EUR"
[tables."My model"]
input = 3
cache_read = 0.3
cache_write = 3.75
output = 15.0
minimum = 1024
granularity = 128
lifetime = "5m"
refreshed = false
marking = "automatic"
as_of = 2026-10-25
source = "https://example.com/prices"
long = { above = 200000, input = 6, cache_read = 0.6, output = 30 }
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "prices.toml"
    file.write_text(text)
    return file


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (found,) = load_pricing(write(tmp_path, GOOD))
    assert (found.name, found.currency, found.lifetime_s, found.refreshed) == (
        "My model",
        "EUR",
        300.0,
        False,
    )
    assert (found.minimum, found.granularity, found.marking) == (1024, 128, "automatic")
    assert found.prices.cache_write == 3.75
    assert found.prices_for(200_000).input == 3.0
    assert found.prices_for(200_001).input == 6.0
    assert found.prices_for(200_001).cache_write is None
    assert found.rules == (
        "from 1,024 tokens, in steps of 128, kept 5 minutes after writing, automatic, writes 1.25x, "
        "reads 0.1x"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("input = 3\n", "", "input: must be a price for a million tokens, but is missing"),
        ("input = 3\n", "input = -3\n", "input: must be at least 0, got -3"),
        ("input = 3\n", "input = nan\n", "input: must be at least 0, got nan"),
        ("input = 3\n", "input = true\n", "input: must be a price for a million tokens, got True"),
        ("0.3\n", '"0.3"\n', "cache_read: must be a price for a million tokens, got '0.3'"),
        ("15.0", "inf", "output: must be at least 0, got inf"),
        ("1024", "0", "minimum: must be a whole number of at least 1, got 0"),
        ("128", "1.5", "granularity: must be a whole number of at least 1, got 1.5"),
        ('"5m"', '"5 min"', 'lifetime: must be a text such as "5m", "1h" or "24h", got \'5 min\''),
        ('"5m"', '"0s"', 'lifetime: must be a text such as "5m", "1h" or "24h", got \'0s\''),
        ('"5m"', "300", 'lifetime: must be a text such as "5m", "1h" or "24h", got 300'),
        ("false", '"no"', "refreshed: must be true or false, got 'no'"),
        ('"automatic"', '"magic"', "marking: must be automatic or breakpoints, got 'magic'"),
        (
            "2026-10-25",
            '"2026-10-25"',
            "as_of: must be a date such as 2026-10-25, without quotes, got '2026-10-25'",
        ),
        (
            "2026-10-25",
            "2026-10-25T10:00:00",
            "as_of: must be a date such as 2026-10-25, without quotes, got datetime.datetime",
        ),
        ("source = ", "sauce = ", "sauce: is no field; known are as_of, cache_read"),
        ('"https://example.com/prices"', '" "', "source: must be a text, got ' '"),
        ("above = 200000, ", "", "long, above: must be a whole number of at least 1, but is missing"),
        ("above = 200000, ", "above = 200000, minimum = 3, ", "long, minimum: is no field"),
        ("long = {", "long = 3 #", "long: must be a table of fields, got 3"),
    ],
)
def test_a_bad_field_is_named_with_its_value(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    file = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(RadixCacheError, match=re.escape(f"{file}, table 'My model', {message}")):
        load_pricing(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "currency: must be a text such as USD, but is missing"),
        ('currency = "USD"', "tables: must hold at least one table [tables.NAME], but is missing"),
        ('currency = "USD"\ntables = 3', "tables: must hold at least one table [tables.NAME], got 3"),
        ('currency = "USD"\ntables.x = 3', "table 'x': must be a table of fields, got 3"),
        ("currency = 3\n[tables.x]", "currency: must be a text such as USD, got 3"),
        ('curency = "USD"', "curency: is no field of a price file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(RadixCacheError, match=re.escape(f"{file}, {message}")):
        load_pricing(file)


def test_what_is_no_toml_or_no_file(tmp_path: Path) -> None:
    file = write(tmp_path, "currency = ")
    with pytest.raises(RadixCacheError, match=f"{re.escape(str(file))} is no TOML: Invalid value"):
        load_pricing(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RadixCacheError, match="is no TOML"):
        load_pricing(file)
    with pytest.raises(RadixCacheError, match=r"gone\.toml cannot be read: No such file"):
        load_pricing(tmp_path / "gone.toml")
    with pytest.raises(RadixCacheError, match="cannot be read: Is a directory"):
        load_pricing(tmp_path)


def test_the_shipped_tables_span_the_hosted_conventions() -> None:
    tables = load_pricing()
    assert len({table.name for table in tables}) == len(tables) >= 8
    assert all(table.source.startswith("https://") and table.as_of.year >= 2026 for table in tables)
    assert all(table.rules_source.startswith("https://") for table in tables)
    assert {300.0, 3600.0, 86400.0, None} <= {table.lifetime_s for table in tables}
    assert {512, 1024, 2048, 4096} <= {table.minimum for table in tables}
    assert {table.marking for table in tables} == {"automatic", "breakpoints"}
    writes = {t.prices.cache_write / t.prices.input for t in tables if t.prices.cache_write is not None}
    assert writes == {1.25, 2.0}
    for table in tables:
        assert table.prices.cache_read < table.prices.input < table.prices.output
        if table.long_prices is not None:
            assert table.long_prices.input > table.prices.input


def test_the_report_is_json_of_plain_values() -> None:
    import json

    report = price_log(workload(range(3000), range(3000)), load_pricing())
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(found) == {
        "currency",
        "uncached",
        "prompt_tokens",
        "output_tokens",
        "providers",
        "self_hosted",
        "assumptions",
    }
    assert found["self_hosted"] is None
    first = found["providers"][0]
    assert first["uncached"] == found["uncached"] == pytest.approx(0.03)
    assert {
        "name",
        "cost",
        "saved",
        "saved_share",
        "cached_tokens",
        "written_tokens",
        "rules",
        "as_of",
    } <= set(first)


def test_no_torch_is_loaded_to_price() -> None:
    code = "import sys, radixcache.pricing; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
