"""Light and dark, on a phone, on paper, and with many requests."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest

from tests.report import pages
from tests.report.browser.conftest import ENTER, Browser, write

GROUND = "return getComputedStyle(document.body).backgroundColor"
TICK = "return getComputedStyle(document.querySelector('.plot .xtick text')).fill"
PROBE = """
const probe = document.body.appendChild(document.createElement("i"));
probe.style.color = `var(--${arguments[0]})`;
const found = getComputedStyle(probe).color;
probe.remove();
return found;
"""


def luminance(rgb: str) -> float:
    """Of a colour as browsers write it, by the definition of WCAG."""
    parts = [float(part) / 255 for part in rgb.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(browser: Browser, name: str, on: str) -> float:
    low, high = sorted(luminance(browser.js(PROBE, part)) for part in (name, on))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_both_schemes(browser: Browser, page: Path, scheme: str) -> None:
    browser.media(scheme=scheme)
    browser.open(page)
    assert (luminance(browser.js(GROUND)) < 0.2) == (scheme == "dark")
    for ground in ("bg", "surface"):
        for name in ("text", "muted", "accent"):
            assert contrast(browser, name, ground) >= 4.5, (name, ground)
        for name in ("quiet", *(f"series-{number}" for number in range(1, 9))):
            assert contrast(browser, name, ground) >= 3, (name, ground)
    for ground in ("deep", "mark", "tint"):
        assert contrast(browser, "text", ground) >= 4.5, ground


def test_the_button_turns_dark_on_and_off_and_charts_follow(browser: Browser, page: Path) -> None:
    browser.open(page)
    light = browser.js(TICK)
    for pressed in ("true", "false"):
        browser.js("document.getElementById('theme').focus()")
        browser.press(ENTER)
        assert browser.js("return document.getElementById('theme').ariaPressed") == pressed
        assert (browser.js(TICK) != light) == (pressed == "true")
        assert (luminance(browser.js(GROUND)) < 0.2) == (pressed == "true")
    browser.js("localStorage.clear()")


def test_a_phone_scrolls_down_only(browser: Browser, page: Path) -> None:
    browser.size(375, 800, phone=True)
    browser.open(page)
    assert browser.js("return document.documentElement.scrollWidth") <= 375
    assert max(browser.all(".plot, pre, h2, p", "n.getBoundingClientRect().right")) <= 375


def test_paper_is_light_and_without_controls(browser: Browser, page: Path) -> None:
    browser.media(scheme="dark")
    browser.open(page)
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    browser.media(scheme="dark", medium="print")
    assert luminance(browser.js(GROUND)) == 1
    assert luminance(browser.js(TICK)) < 0.3
    assert set(browser.all(".top, .table-tools, .pager button", "getComputedStyle(n).display")) == {"none"}
    browser.js("window.dispatchEvent(new Event('afterprint'))")
    browser.media(scheme="dark")
    assert luminance(browser.js(GROUND)) < 0.2
    browser.media()
    paper = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert paper.startswith(b"%PDF")
    assert len(paper) > 50_000


def test_a_hundred_thousand_requests(browser: Browser, tmp_path: Path) -> None:
    report: dict[str, Any] = pages.doctor(100_000)
    used_s = browser.open(write(tmp_path, report))
    assert browser.errors() == []
    assert 0 < used_s < 5
    assert browser.status() == "1 to 25 of 100,000"
    assert len(browser.cells("Line")) == 25
    assert browser.js("return document.querySelectorAll('*').length") < 12_000
    rows = report["table"]["rows"]
    start = time.perf_counter()
    browser.all(f"#{browser.table()} th button", "n.textContent === 'Missed' && n.click()")
    missed = sorted((row[5] - row[6] for row in rows), reverse=True)
    assert browser.cells("Missed") == [f"{value:,}" for value in missed[:25]]
    filtered = "const n = document.querySelector('input[type=search]'); n.value = 'evicted cached<500'; "
    browser.js(filtered + "n.dispatchEvent(new Event('input'))")
    wanted = sum(row[8] == "evicted" and row[6] < 500 for row in rows)
    end = f"of {wanted:,}, filtered from 100,000"
    browser.wait(f"return document.querySelector('.pager output').textContent.endsWith('{end}')")
    assert time.perf_counter() - start < 10
