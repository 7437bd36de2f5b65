"""The page: one file with its style, scripts and data in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from radixcache.files import writing
from radixcache.report.html.clean import Cleaner
from radixcache.report.html.payload import make_payload
from radixcache.report.html.read import Run
from radixcache.report.html.records import RequestLog
from radixcache.report.html.words import vocabulary

__all__ = ["render_page", "write_html"]

# One script, in the order in which its parts need each other.
_SCRIPTS = (
    "dom.js",
    "format.js",
    "theme.js",
    "charts.js",
    "headline.js",
    "curves.js",
    "results.js",
    "findings.js",
    "tree.js",
    "table.js",
    "pricing.js",
    "main.js",
)
_STYLES = ("base.css", "parts.css", "explore.css", "media.css")
_NO_REQUESTS = RequestLog((), ())


def write_html(
    runs: Sequence[Run], path: Path, *, log: RequestLog = _NO_REQUESTS, redact: bool = False
) -> None:
    """Write reports, and records of requests, as one HTML file that needs nothing but a browser.

    Args:
        runs: at least one report.
        path: whole or not there afterwards.
        log: records of `--requests-out`, for what reports do not hold of single requests.
        redact: replace every text from outside by its length and a salted digest.

    Raises:
        ValueError: naming the path, if it cannot be written.
    """
    page = render_page(runs, log=log, redact=redact)
    with writing(path) as file:
        file.write(page)


def render_page(
    runs: Sequence[Run], *, log: RequestLog = _NO_REQUESTS, redact: bool = False, salt: bytes | None = None
) -> str:
    """The same as text; `salt` makes the digests of a redacted report repeatable.

    Raises:
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    cleaner = Cleaner(redact=redact, vocabulary=vocabulary(), salt=salt)
    payload = make_payload(runs, log, cleaner)
    # Markup is what the page's own files hold; whatever comes from a log is escaped by the
    # template, or data that no parser takes for markup.
    plot = _static("plot.js")
    script = '(() => {\n"use strict";\n' + "".join(map(_static, _SCRIPTS)) + "})();"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_static("page.html")).render(
        title=_title(payload),
        script_hashes=" ".join(map(_hash, (script, plot))),
        style=Markup("".join(map(_static, _STYLES))),
        script=Markup(script),
        plot=Markup(plot),
        data=Markup(as_script_data(payload)),
    )


def as_script_data(value: Any) -> str:
    """JSON in ASCII without a character by which markup could begin or a script element end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _title(payload: dict[str, Any]) -> str:
    logs = [log for report in payload["reports"] for log in report["data"]["logs"]]
    names = list(dict.fromkeys(log.rsplit("/", 1)[-1] for log in logs))
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{', '.join(names[:2])}{more} - radixcache" if names else "radixcache"


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _static(name: str) -> str:
    return (files(__package__) / "static" / name).read_text(encoding="utf-8")
