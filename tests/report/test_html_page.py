"""One file: what is in it, what is not, and what bad input says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from radixcache.report.html import read_run, render_page
from radixcache.report.html.records import RequestLog, read_requests
from tests.report import pages
from tests.report.planted import planted

pytest.importorskip("jinja2", reason="the extra html is not installed")


def all_reports() -> list[dict[str, Any]]:
    return [pages.doctor(12), pages.replay(6)[0], pages.curve(), pages.simulation()]


def render(folder: Path, reports: list[dict[str, Any]], records: list[dict[str, Any]], **how: Any) -> str:
    runs = [read_run(pages.save(report, folder / f"SECRET-{i}.json")) for i, report in enumerate(reports)]
    log = read_requests([pages.save_records(records, folder / "r.jsonl")]) if records else RequestLog((), ())
    return render_page(runs, log=log, **how)


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_policy_names_the_two_scripts_and_nothing_else(tmp_path: Path) -> None:
    text = render(tmp_path, [pages.curve()], [])
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    rules = policy[1].replace("&#39;", "'")
    sources = " ".join(f"'sha256-{value}'" for value in hashes)
    assert f"script-src {sources};" in rules
    assert rules.startswith("default-src 'none';")
    assert text.index("Content-Security-Policy") < text.index("<style>") < text.index("<script")


def test_own_parts_refer_to_nothing_outside(tmp_path: Path) -> None:
    text = render(tmp_path, [pages.curve()], [])
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


SECRETS = [f"SECRET-{number}-<b>\u202e" for number in range(7)]


def planted_page(folder: Path, **how: Any) -> str:
    records = planted(pages.replay(6)[1], SECRETS)
    reports = [planted(report, SECRETS) for report in all_reports()]
    return render(folder, reports, records, **how)


def test_redaction_leaves_no_planted_text(tmp_path: Path) -> None:
    shown, redacted = planted_page(tmp_path), planted_page(tmp_path, redact=True)
    assert shown.count("SECRET-") > 100
    assert "SECRET" not in redacted
    assert "u202e" not in re.sub(r"<script>.*?</script>", "", redacted, flags=re.DOTALL)


def test_redaction_keeps_figures_and_own_words(tmp_path: Path) -> None:
    plain, redacted = (
        data_of(render(tmp_path, all_reports(), pages.replay(6)[1], redact=redact))
        for redact in (False, True)
    )

    changing = ("redacted", "values", "texts")

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key not in changing}
        if isinstance(value, list):
            return [bare(item) for item in value]
        return None if isinstance(value, str) else value

    assert bare(plain) == bare(redacted)
    doctor, redacted_doctor = (value["reports"][0]["data"] for value in (plain, redacted))
    for kept in ("missed_tokens", "timeline", "curve", "versions"):
        assert doctor[kept] == redacted_doctor[kept]
    assert redacted_doctor["findings"][0]["kind"] == "volatile_text"
    assert redacted_doctor["pricing"]["providers"][0]["name"] == "Claude Opus 5, 5 minutes"
    assert "house" not in json.dumps(redacted_doctor)
    differs = redacted_doctor["findings"][0]["examples"][0]["left"]["differs"]
    assert differs.startswith("[10 characters, ")


def test_a_salt_makes_pages_repeatable(tmp_path: Path) -> None:
    one, two, three = (
        render(tmp_path, [pages.doctor(5)], [], redact=True, salt=s) for s in (b"s", b"s", None)
    )
    assert one == two != three
