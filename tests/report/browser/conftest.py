"""Headless Chromium for the pages; tests skip where it, its driver or a package is missing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report import pages

TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
_PATIENCE_S = 90.0


class Browser:
    """One page at a time, with what tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> float:
        """Load a page until its last chart is drawn; returns seconds of processor time that the page took.

        They are those of its thread, whatever else the machine does. Logs of the page before are dropped.
        """
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.execute_cdp_cmd("Performance.disable", {})
        self.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        self.driver.get(page.as_uri())
        self.wait("return document.documentElement.dataset.drawn === 'true'")
        metrics = self.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str) -> None:
        """Until a script returns something true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.js(condition):
            assert time.monotonic() < end, f"never came true: {condition}; {self.errors()}"
            time.sleep(0.02)

    def errors(self) -> list[str]:
        """What the console has to complain of."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, its own among them."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def media(self, *, scheme: str = "light", medium: str = "") -> None:
        """What the system prefers, and the medium drawn for."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def all(self, selector: str, expression: str) -> list[Any]:
        """What an expression of `n` is for every element that the selector finds."""
        script = f"return [...document.querySelectorAll(arguments[0])].map((n) => {expression})"
        return list(self.js(script, selector))

    def focus(self, selector: str) -> None:
        """Go there by the keyboard alone: Tab until it has the focus."""
        for _ in range(120):
            if self.js("return document.activeElement?.matches(arguments[0])", selector):
                return
            self.press(TAB)
        raise AssertionError(f"{selector} cannot be reached by Tab")

    def cells(self, title: str) -> list[str]:
        """A column of the first table of requests, as shown."""
        place = self.heads().index(title) + 1
        return self.all(f"#{self.table()} tbody td:nth-child({place})", "n.textContent")

    def heads(self) -> list[str]:
        """The titles of its columns."""
        return self.all(f"#{self.table()} thead th", "n.textContent")

    def table(self) -> str:
        """Its id, given to it if need be."""
        return str(self.js("const t = document.querySelector('.requests'); return t.id ||= 'table-in-test'"))

    def status(self) -> str:
        """What the pager of the first table says."""
        return str(self.js("return document.querySelector('.pager output').textContent"))


def write(folder: Path, *reports: dict[str, Any], records: list[dict[str, Any]] | None = None) -> Path:
    """A page of these reports, which lie beside it as run0.json and so on."""
    from radixcache.report.html import read_run, write_html
    from radixcache.report.html.records import read_requests

    runs = [read_run(pages.save(report, folder / f"run{i}.json")) for i, report in enumerate(reports)]
    log = read_requests([pages.save_records(records, folder / "requests.jsonl")] if records else [])
    write_html(runs, folder / "page.html", log=log)
    return folder / "page.html"


@pytest.fixture(scope="session")
def doctor() -> dict[str, Any]:
    """The first report of `page`."""
    return pages.doctor()


@pytest.fixture(scope="session")
def page(doctor: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything: doctor, replay with its records, curve, simulation."""
    pytest.importorskip("jinja2", reason="the extra html is not installed")
    replay, records = pages.replay()
    folder = tmp_path_factory.mktemp("page")
    return write(folder, doctor, replay, pages.curve(), pages.simulation(), records=records)


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    pytest.importorskip("jinja2", reason="the extra html is not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.set_page_load_timeout(_PATIENCE_S)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(_browser: Browser) -> Browser:
    """A wide window that prefers light, whatever the test before did."""
    _browser.media()
    _browser.size(1280, 900)
    return _browser
