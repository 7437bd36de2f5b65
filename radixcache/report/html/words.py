"""Words that the package itself writes into reports: they stay readable where all other text is redacted."""

from __future__ import annotations

from radixcache.cache.eviction import policies
from radixcache.cache.misses import MissReason
from radixcache.doctor.diagnosis.schema import CAUSES
from radixcache.pricing import load_pricing
from radixcache.report.html.doctor import Money, Point, Settings, WhatIf
from radixcache.simulate.results import CLAIRVOYANT

__all__ = ["vocabulary"]

_KINDS = (
    "volatile_text",
    "reordered",
    "json_layout",
    "history_rewritten",
    "tools_changed",
    "template_not_stable",
    "retokenised",
    "capacity",
    "policy",
)
_PLACES = ("system", "tools", "message", "template", "prompt", "user", "assistant", "tool", "developer")
_SETTINGS = (
    "on",
    "off",
    "closed",
    "timestamps",
    "namespace",
    "cpu",
    "cuda",
    "float32",
    "float16",
    "bfloat16",
)
_VERDICTS = ("rounding", "wrong", "failed")
_COLUMNS = ("source", "line", "session", "prompt_tokens", "cached_tokens", "missed_tokens", "cause", "part")
_PACKAGES = ("python", "radixcache", "torch", "transformers", "tokenizers", "triton", "numpy")


def vocabulary() -> frozenset[str]:
    """All of them."""
    words = {CLAIRVOYANT, *policies, *(reason.value for reason in MissReason), *CAUSES}
    for table in load_pricing():
        words.update((table.name, table.currency, table.rules, table.as_of.isoformat()))
    for shape in (Settings, Point, Money, WhatIf):
        words.update(shape.__annotations__)
    return frozenset(words.union(_KINDS, _PLACES, _SETTINGS, _VERDICTS, _COLUMNS, _PACKAGES))
