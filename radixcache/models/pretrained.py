"""Loading through transformers' Auto classes: no code of a model is ever run, and nothing is ever asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radixcache.errors import ModelError
from radixcache.models.hub import NO_ANSWER
from radixcache.models.quiet import first_line

__all__ = ["from_pretrained", "refuse_missing", "why_not_loaded"]

_ASKED_FOR = "trust_remote_code"
_NAMED = 5


def from_pretrained(auto: Any, source: Path | str, **options: Any) -> Any:
    """`auto.from_pretrained(source, ...)`, which refuses what needs Python code that comes with the files.

    Left to itself transformers asks on standard input whether to run it, and a piped log could say yes.
    """
    return auto.from_pretrained(source, trust_remote_code=False, **options)


def why_not_loaded(error: BaseException, source: Path | str, *, online: bool) -> str:
    """The reason for `error`, which loading from `source` raised, in one line."""
    if _ASKED_FOR in str(error):
        return "it needs Python code that comes with it (auto_map), which is never run"
    if online or isinstance(source, Path):
        return first_line(error)
    return NO_ANSWER


def refuse_missing(report: Mapping[str, Any], name: str) -> None:
    """Weights that a model's files lack were filled with random numbers; such a model is no model.

    Args:
        report: what `from_pretrained` returns with `output_loading_info`.
        name: of the model.

    Raises:
        ModelError: naming the model and the first of the weights.
    """
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report.get("mismatched_keys", ()))})
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise ModelError(f"{name}: lacks {len(missing)} weights: {named}")
