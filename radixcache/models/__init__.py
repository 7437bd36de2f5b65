"""A name or path -> model and tokenizer; the embedded default model.

`load_model` is imported on first use, so that naming the embedded model (in a command's help, say) costs
no import of torch or transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radixcache.extras import require_extra
from radixcache.models.loaded import EMBEDDED_MODEL, LoadedModel

if TYPE_CHECKING:
    from radixcache.models.load import load_model

__all__ = ["EMBEDDED_MODEL", "LoadedModel", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        require_extra("engine", name)
        from radixcache.models.load import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
