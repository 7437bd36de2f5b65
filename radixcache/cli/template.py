"""`radixcache doctor --template`: whether a chat template keeps what it wrote."""

from __future__ import annotations

from pathlib import Path

from radixcache.extras import require_extra

__all__ = ["prove_templates"]


def prove_templates(name_or_file: str, json_file: Path | None) -> None:
    """Prove every template of a model or a file, print the proofs, and write them.

    Raises:
        ModelError, ValueError: there is no template, or the file cannot be written.
        MissingExtraError: transformers, which renders the templates, is not installed.
    """
    require_extra("engine", "the proof of a chat template", modules=["transformers"])

    from rich.console import Console

    from radixcache.doctor.template.prove import prove_template
    from radixcache.doctor.template.source import load_templates
    from radixcache.report.terminal.template import print_proofs, write_proofs

    errors = Console(stderr=True)
    templates = load_templates(name_or_file, lambda line: errors.print(line, markup=False))
    proofs = [prove_template(template) for template in templates]
    if json_file is not None:
        write_proofs(proofs, json_file)
    print_proofs(proofs, Console())
