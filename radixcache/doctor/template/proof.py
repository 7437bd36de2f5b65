"""A finding about the chat template, with the proof of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from radixcache.doctor.diagnosis.schema import Finding
from radixcache.errors import RadixCacheError

__all__ = ["with_proof"]

_KIND = "template_not_stable"


def with_proof(findings: list[Finding], model: str | None, notify: Callable[[str], None]) -> list[Finding]:
    """The same findings; where the template is to blame the advice names its line, if that is proved."""
    if model is None or all(finding.kind != _KIND for finding in findings):
        return findings
    from radixcache.doctor.template.prove import prove_template
    from radixcache.doctor.template.source import load_templates

    try:
        proofs = [prove_template(template) for template in load_templates(model, notify)]
    except RadixCacheError:
        return findings
    lines = [
        f"Proved on made-up conversations ({change.feature}): line {change.template_line} of the template, "
        f"{(change.template_text or '').strip()}"
        for proof in proofs
        for change in proof.changes
        if change.kind != "clock" and change.template_line is not None
    ]
    if not lines:
        return findings
    return [
        replace(finding, advice=f"{finding.advice} {lines[0]}") if finding.kind == _KIND else finding
        for finding in findings
    ]
