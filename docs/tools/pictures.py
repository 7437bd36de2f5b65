"""Draw the pictures of the documentation from real runs of the example log.

    python docs/tools/pictures.py [--limit N]

Writes docs/replay.svg, what `radixcache replay` prints for the log or its first N requests, and
docs/doctor.png, the page of `radixcache doctor`, which takes Chromium. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from radixcache.report.html.read import read_run
from radixcache.report.html.records import read_requests
from radixcache.report.terminal.runs import print_run

DOCS = Path(__file__).resolve().parents[1]
LOG = "examples/logs/assistant.jsonl"
COLUMNS = 92
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def radixcache(*arguments: str) -> None:
    command = [sys.executable, "-m", "radixcache", *arguments]
    subprocess.run(command, cwd=DOCS.parent, check=True, stdout=subprocess.DEVNULL)


def draw_replay(folder: Path, limit: int | None) -> None:
    run, records = folder / "run.json", folder / "requests.jsonl"
    options = [] if limit is None else ["--limit", str(limit)]
    radixcache("replay", LOG, *options, "--json", str(run), "--requests-out", str(records))
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    print_run(read_run(run), read_requests([records]), console)
    drawn = console.export_svg(title=" ".join(["radixcache replay", LOG, *options]))
    # Without fonts from elsewhere: the picture is whole by itself.
    (DOCS / "replay.svg").write_text(_FONT.sub("", drawn), encoding="utf-8")


def draw_doctor(folder: Path, browser: str) -> None:
    page = folder / "page.html"
    radixcache("doctor", LOG, "--html", str(page))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1200,1300", "--virtual-time-budget=8000"]
    command += [f"--screenshot={DOCS / 'doctor.png'}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, help="requests to replay; all if left out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw_replay(folder, arguments.limit)
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            sys.exit("docs/doctor.png was not drawn: no Chromium")
        draw_doctor(folder, browser)


if __name__ == "__main__":
    main()
