"""What a page shows are the figures of its JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.report.browser.conftest import Browser

Json = dict[str, Any]


def run(page: Path, number: int) -> Json:
    found: Json = json.loads(page.with_name(f"run{number}.json").read_text())
    return found


def figures(browser: Browser) -> dict[str, str]:
    return dict(browser.all("data[data-figure]", "[n.dataset.figure, n.value]"))


def test_a_diagnosis(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    assert browser.errors() == []
    shown = figures(browser)
    for name in ("hit_rate", "requests", "cached_tokens"):
        assert float(shown[f"r1.{name}"]) == doctor[name]
    for cause, tokens in doctor["missed_tokens"].items():
        assert int(shown.get(f"r1.missed.{cause}", 0)) == tokens
    for finding in doctor["findings"]:
        for name in ("requests", "tokens_lost", "gain_tokens", "hit_rate_after", "prefill_s"):
            if finding[name] is not None:
                assert float(shown[f"r1.{finding['id']}.{name}"]) == finding[name]
    for provider in doctor["pricing"]["providers"]:
        assert float(shown[f"r1.pricing.{provider['name']}.cost"]) == provider["cost"]
    assert browser.all("[data-figure='r1.hit_rate']", "n.textContent") == [f"{doctor['hit_rate']:.1%}"]


def test_findings_keep_their_rank(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    assert browser.all(".finding h3", "n.textContent") == [f["title"] for f in doctor["findings"]]


def test_the_differing_text_is_marked_on_both_sides(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.all(".side mark", "n.textContent") == ["2026-11-20", "∅"]
    left, right = browser.all(".side", "n.innerText")
    assert "support.jsonl:3" in left
    assert "support.jsonl:9" in right
    assert left.count("You are the booking desk") == 1


def test_a_replay(browser: Browser, page: Path) -> None:
    browser.open(page)
    shown = figures(browser)
    for cache in run(page, 1)["runs"]:
        for name in ("hit_rate", "prompt_tokens", "prefill_tokens", "wall_s", "control_share"):
            assert float(shown[f"r2.{cache['cache']}.{name}"]) == cache[name]
        for times in ("ttft_s", "latency_s"):
            for share, value in cache[times].items():
                assert float(shown[f"r2.{cache['cache']}.{times}.{share}"]) == value


def test_a_simulation(browser: Browser, page: Path) -> None:
    browser.open(page)
    shown = figures(browser)
    for result in run(page, 3)["results"]:
        room = "unbounded" if result["capacity_blocks"] is None else result["capacity_blocks"]
        name = f"r4.16.{room}.{result['policy']}.hit_rate_whole_blocks"
        assert float(shown[name]) == result["hit_rate_whole_blocks"]


def test_a_curve_as_it_is_drawn(browser: Browser, page: Path) -> None:
    browser.open(page)
    curve = run(page, 2)
    (summary,) = curve["curves"]
    assert float(figures(browser)["r3.unbounded_hit_rate"]) == summary["unbounded_hit_rate"]
    plots = browser.all(".plot", "n.data.map((t) => [t.name ?? '', [...t.x], [...t.y]])")
    points = curve["points"]
    lru, line, bound, knee = next(p for p in plots if len(p) == 4 and len(p[0][1]) == len(points))
    assert lru == ["LRU", [p["capacity_tokens"] for p in points], [p["hit_rate"] for p in points]]
    assert all(high >= low for high, low in zip(line[2][::-1], lru[2][::-1], strict=False))
    best = [p for p in points if p["clairvoyant_hit_rate"] is not None]
    assert bound[1] == [p["capacity_tokens"] for p in best]
    assert bound[2] == [p["clairvoyant_hit_rate"] for p in best]
    assert knee[1] == [summary["knee_blocks"] * summary["block_size"]]


def test_hit_rates_over_time_as_they_are_drawn(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    drawn = browser.all(".plot", "[...n.data[0].y]")[0]
    pairs = [doctor["timeline"][at : at + 2] for at in range(0, 120, 2)]
    sums = [[sum(b[name] for b in pair) for name in ("cached_tokens", "prompt_tokens")] for pair in pairs]
    rates = [cached / prompt for cached, prompt in sums]
    assert drawn == [*rates, rates[-1]]


def test_the_colour_of_a_node_is_its_reuse(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    shown = browser.all("[role=treeitem][aria-level='2']", "+n.style.getPropertyValue('--reuse')")
    nodes = [node for node in doctor["tree"]["nodes"] if node["parent"] == 0]
    shares = [node["reused_tokens"] / (node["tokens"] * node["requests"]) for node in nodes]
    assert len(shown) == len(shares)
    assert all(abs(a - b) < 0.001 for a, b in zip(shown, shares, strict=True))


def test_names_roles_and_headings(browser: Browser, page: Path) -> None:
    browser.open(page)
    named = "button, a, input, section, nav, [role=img], [role=region], [role=tree], [role=treeitem]"
    texts = "[n.ariaLabel, n.textContent.trim(), n.labels?.[0]?.textContent].some(Boolean)"
    assert all(browser.all(named, texts))
    levels = browser.all("h1, h2, h3", "+n.tagName[1]")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(browser.all("table", "n.caption !== null"))
    assert all(browser.all("th", "n.scope"))
    ids = browser.all("[id]", "n.id")
    assert len(ids) == len(set(ids))
    assert set(browser.all("nav a", "n.hash.slice(1)")) <= set(ids)
