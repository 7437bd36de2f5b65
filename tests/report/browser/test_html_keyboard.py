"""The page by keyboard alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser.conftest import DOWN, ENTER, ESCAPE, LEFT, RIGHT, TAB, UP, Browser

Json = dict[str, Any]
FILTER = "input[type=search]"


def test_the_first_stop_skips_to_the_report(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press(TAB)
    assert browser.js("return document.activeElement.textContent") == "Skip to the report"
    browser.press(ENTER)
    browser.wait("return document.activeElement.id === 'main'")


def test_sorting(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    place = browser.heads().index("Prompt") + 1
    browser.js(f"document.querySelector('{FILTER}').focus()")
    browser.focus(f".requests th:nth-child({place}) button")
    prompts = sorted((row[5] for row in doctor["table"]["rows"]), reverse=True)
    for state, order in (("descending", prompts), ("ascending", prompts[::-1])):
        browser.press(ENTER)
        sorted_by = browser.all(f"#{browser.table()} th[aria-sort]", "[n.textContent, n.ariaSort]")
        assert sorted_by == [["Prompt", state]]
        assert browser.cells("Prompt") == [f"{value:,}" for value in order[:25]]


def test_sorting_texts_by_their_numbers(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.all(f"#{browser.table()} th button", "n.textContent === 'Session' && n.click()")
    assert list(dict.fromkeys(browser.cells("Session"))) == [f"session-{number}" for number in range(5)]


def test_filtering(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    rows = doctor["table"]["rows"]
    count = Counter(row[8] for row in rows)["partial_block"]
    chosen = [row for row in rows if row[8] == "partial_block" and row[5] - row[6] > 1000]
    assert 0 < len(chosen) < count
    browser.js(f"document.querySelector('{FILTER}').focus()")
    status = "document.querySelector('.pager output').textContent"
    browser.press("partial block")
    browser.wait(f"return {status} === '1 to {min(25, count)} of {count}, filtered from 120'")
    browser.press(" missed>1000")
    browser.wait(f"return {status}.includes(' of {len(chosen)}, filtered')")
    assert browser.cells("Line") == [str(row[1]) for row in chosen[:25]]
    browser.press(" nothing-like-it")
    browser.wait(f"return {status} === '0 to 0 of 0, filtered from 120'")
    assert browser.cells("Line") == []


def test_paging(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.js(f"document.querySelector('{FILTER}').focus()")
    browser.focus(".pager button:nth-of-type(3)")
    browser.press(ENTER)
    assert browser.cells("Line") == [str(line) for line in range(26, 51)]
    assert browser.status() == "26 to 50 of 120"
    browser.focus(".pager button:nth-of-type(4)")
    browser.press(ENTER)
    assert browser.cells("Line") == [str(line) for line in range(101, 121)]


def test_the_tree(browser: Browser, page: Path, doctor: Json) -> None:
    browser.open(page)
    browser.js("[...document.querySelectorAll('.tree-tools button')].at(-1).focus()")
    browser.focus("[role=treeitem]")
    assert len(browser.all("[role=treeitem][tabindex='0']", "1")) == 1
    nodes = doctor["tree"]["nodes"]
    first, second = [node for node in nodes if node["parent"] == 0][:2]
    for key, node in ((DOWN, first), (RIGHT, second)):
        browser.press(key)
        (details,) = browser.all(".tree-details", "n.textContent")
        assert f"{node['tokens']} tokens, {node['requests']} requests" in details
        assert node["text"] in details
    view = "document.querySelector('.icicle').clientWidth"
    width = f"return document.activeElement.getBoundingClientRect().width / {view}"
    share = tokens_below(nodes, second) / tokens_below(nodes, nodes[0])
    assert browser.js(width) == pytest.approx(share, abs=0.01)
    browser.press(ENTER)
    assert browser.js(width) == pytest.approx(1.0, abs=0.01)
    browser.press(ESCAPE)
    browser.press(DOWN, RIGHT, LEFT, UP, UP)
    assert browser.js("return document.activeElement.getAttribute('aria-level')") == "1"


def tokens_below(nodes: list[Json], node: Json) -> int:
    below = [other for other in nodes if other["parent"] == nodes.index(node)]
    return int(node["tokens"]) + sum(tokens_below(nodes, other) for other in below)
