"""`radixcache template`: whether a chat template keeps what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radixcache.cli.outputs import JsonOption, check_outputs, deliver, report_console
from radixcache.extras import require_extra

__all__ = ["prove_templates", "template_command"]


def template_command(
    template: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="A model, or a file with a chat template: .jinja, tokenizer_config.json, GGUF.",
            show_default=False,
        ),
    ],
    json_file: JsonOption = None,
) -> None:
    """Prove whether a chat template keeps what it wrote while turns are added.

    Examples:

      radixcache template org/name

      radixcache template chat_template.jinja --json proof.json
    """
    prove_templates(template, json_file)


def prove_templates(name_or_file: str, json_file: Path | None) -> None:
    """Prove every template of a model or a file, print the proofs, and write them.

    Raises:
        ModelError, ValueError: there is no template, or the file cannot be written.
        MissingExtraError: transformers, which renders the templates, is not installed.
    """
    require_extra("engine", "the proof of a chat template", modules=["transformers"])
    if not name_or_file:
        raise ValueError("the name of the template is empty")
    check_outputs(json_file, also_read=[name_or_file])

    from radixcache.doctor.template.prove import prove_template
    from radixcache.doctor.template.source import load_templates
    from radixcache.report.terminal.console import error_console
    from radixcache.report.terminal.template import print_proofs, write_proofs

    console = report_console(json_file)
    templates = load_templates(name_or_file, error_console().notify)
    proofs = [prove_template(template) for template in templates]
    deliver(lambda: print_proofs(proofs, console), (json_file, lambda path: write_proofs(proofs, path)))
