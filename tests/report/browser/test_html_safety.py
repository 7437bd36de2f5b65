"""Hostile text is shown and does nothing; nothing leaves the page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.report import pages
from tests.report.browser.conftest import Browser, write
from tests.report.planted import planted

REACH_OUT = """
const [at, done] = arguments;
const refused = new Set();
document.addEventListener("securitypolicyviolation", (event) => refused.add(event.effectiveDirective));
new Image().src = at + "image";
const script = document.createElement("script");
script.src = at + "script";
const inline = document.createElement("script");
inline.textContent = "document.title = 'owned'";
document.body.append(script, inline);
const tell = () => setTimeout(() => done([...refused].sort()), 300);
fetch(at + "fetch").then(() => done("reached"), tell);
"""


def schemes(browser: Browser) -> set[str]:
    return {url.partition(":")[0] for url in browser.requests()}


def test_hostile_text_is_shown_and_inert(browser: Browser, tmp_path: Path) -> None:
    replay, records = pages.replay(20)
    reports = [pages.doctor(30), replay, pages.curve(by="namespace", clairvoyant=False), pages.simulation()]
    plants = [planted(report, pages.HOSTILE) for report in reports]
    browser.open(write(tmp_path, *plants, records=planted(records, pages.HOSTILE)))
    browser.js("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert browser.errors() == []
    assert browser.js("return document.title").endswith("- radixcache")
    assert browser.all("img, iframe, object, embed, [onload], [onerror]", "n.outerHTML") == []
    assert len(browser.all("script", "1")) == 3
    shown = browser.js("return document.body.innerText")
    assert "<img src=x onerror=" in shown
    assert "\\x1b[31mred\\x1b[0m \\u202eevil\\u202c \\u2028 \\ud800 &lt;" in shown
    everything = browser.all("body, [title], [aria-label]", "[n.textContent, n.title, n.ariaLabel].join()")
    assert not set("\x1b\u202e\u202c\u2028") & set("".join(everything))
    assert schemes(browser) <= {"file", "data"}


def test_a_page_asks_for_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    asked = [url for url in browser.requests() if not url.startswith("data:")]
    assert set(asked) <= {page.as_uri()}


@pytest.fixture
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and what it was asked for."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


def test_the_policy_stops_what_would_reach_out(
    browser: Browser, page: Path, listening: tuple[str, list[str]]
) -> None:
    address, asked = listening
    browser.open(page)
    refused = browser.driver.execute_async_script(REACH_OUT, address)
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert asked == []
    assert browser.js("return document.title") != "owned"
    browser.errors()
