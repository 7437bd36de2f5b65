"""Reports as one HTML file that opens offline: what it shows is read, cleaned, laid out and rendered here."""

from __future__ import annotations

from radixcache.report.html.page import render_page, write_html
from radixcache.report.html.read import Run, diagnosis_run, read_run

__all__ = ["Run", "diagnosis_run", "read_run", "render_page", "write_html"]
