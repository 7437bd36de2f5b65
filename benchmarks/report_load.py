"""How long a report of 100,000 requests takes to write, to open in Chromium, to sort and to filter.

The report is that of `radixcache doctor` on a made log of block hashes: conversations of several turns under
a few system prompts. The page is opened several times by a fresh headless Chromium (Debian's packages
chromium and chromium-driver, and selenium from the extra dev). `ready` is from the start of the navigation
until the text and the table stand, `drawn` until the last chart is there, and `thread` is the processor time
that the page's main thread took for it; `sort` and `filter` are from the event to the new rows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import arguments, write_results
from benchmarks.curve_memory import as_hashes, conversations

_ROOT = Path(__file__).resolve().parents[1]
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
_SORT = """
const start = performance.now();
const buttons = [...document.querySelectorAll(".requests th button")];
buttons.find((button) => button.textContent === "Missed").click();
return performance.now() - start;
"""
_FILTER = """
const done = arguments[0], start = performance.now(), status = document.querySelector(".pager output");
new MutationObserver(() => done(performance.now() - start)).observe(status, { childList: true });
const input = document.querySelector("input[type=search]");
input.value = "diverged missed>1000";
input.dispatchEvent(new Event("input"));
"""


def command(*options: str) -> float:
    """Run a command of the package; seconds it took."""
    start = time.perf_counter()
    line = [sys.executable, "-m", "radixcache", *options]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, cwd=_ROOT)
    return time.perf_counter() - start


def open_page(page: Path, folder: Path) -> dict[str, float]:
    """Seconds until it can be read and until all is drawn, and of a sort and a filter."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver: Any = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        driver.get(page.as_uri())
        while not driver.execute_script("return document.documentElement.dataset.drawn === 'true'"):
            time.sleep(0.02)
        marks = "return ['ready', 'drawn'].map((name) => performance.getEntriesByName(name)[0].startTime)"
        ready, drawn = driver.execute_script(marks)
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        thread = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
        found = {"ready": ready, "drawn": drawn, "thread": 1000 * thread}
        found["sort"] = driver.execute_script(_SORT)
        found["filter"] = driver.execute_async_script(_FILTER)
        complaints = driver.get_log("browser")
        if complaints:
            raise SystemExit(f"the console complained: {complaints}")
        return {name: value / 1000 for name, value in found.items()}
    finally:
        driver.quit()


def main() -> None:
    """Make the log, the report and the page; open it; print and keep the figures."""
    parser = arguments("report_load", __doc__, model=None)
    parser.add_argument("--requests", type=int, default=100_000, help="requests in the report")
    parser.add_argument("--rounds", type=int, default=5, help="times that the page is opened")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radixcache-") as name:
        folder = Path(name)
        log, report, page = (folder / file for file in ("log.jsonl", "doctor.json", "page.html"))
        with log.open("w", encoding="ascii") as file:
            for number, blocks in enumerate(conversations(1 << 60, args.seed)):
                if number == args.requests:
                    break
                file.write(as_hashes(blocks))
        command("doctor", str(log), "--json", str(report))
        write_s = command("report", str(report), "--html", str(page))
        size = page.stat().st_size
        rows = len(json.loads(report.read_text(encoding="utf-8"))["table"]["rows"])
        rounds = [open_page(page, folder / f"profile-{number}") for number in range(args.rounds)]
    medians = {name: round(median(one[name] for one in rounds), 3) for name in rounds[0]}
    print(f"{rows:,} requests, {size / 1e6:.1f} MB, written in {write_s:.1f} s")
    for name, value in medians.items():
        times = ", ".join(f"{one[name]:.2f}" for one in rounds)
        print(f"{name:8} {value:6.2f} s  ({times})")
    write_results(
        args.out,
        {
            "requests": rows,
            "page_bytes": size,
            "write_s": round(write_s, 2),
            "seed": args.seed,
            "medians_s": medians,
            "rounds_s": rounds,
        },
    )


if __name__ == "__main__":
    main()
