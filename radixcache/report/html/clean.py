"""Text from outside made safe to look at: control characters shown, or every text replaced by its size."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from typing import Any

from radixcache.report.text import visible

__all__ = ["Cleaner", "inert", "with_whole_characters"]

_VERSION = re.compile(r"v?\d+(\.\d+){1,3}([.+-]?[a-z]{1,6}\d{0,6}){0,3}")
_DIGEST_CHARACTERS = 10
# One escape after the other: a backslash or a whole pair, which stay, or a half.
_HIGH, _LOW = r"\\u[dD][89abAB][\da-fA-F]{2}", r"\\u[dD][c-fC-F][\da-fA-F]{2}"
_SURROGATES = re.compile(rf"(\\\\|{_HIGH}{_LOW})|{_HIGH}|{_LOW}")


def inert(text: str) -> str:
    """Escape what is not printable (ANSI codes, bidirectional marks, lone surrogates); lines stay lines."""
    return "\n".join(
        "\t".join(visible(part, limit=len(part)) for part in line.split("\t")) for line in text.split("\n")
    )


def with_whole_characters(json_text: str) -> str:
    """JSON in which halves of surrogate pairs, which no UTF-8 can hold, are text such as `\\ud800`."""
    return _SURROGATES.sub(lambda found: found[1] or "\\" + found[0], json_text)


class Cleaner:
    """Cleans JSON values, keys as well as texts.

    Without redaction a text becomes `inert`. With it every text but the words that the package itself writes
    becomes its length and a salted digest, `[24 characters, 3f09c1aa07]`: equal texts stay recognisable as
    equal within one report, and nothing else can be learned of them. Fields are not chosen one by one, so one
    that is added to a report later cannot leak.

    Args:
        redact: whether to replace texts.
        vocabulary: words that are kept.
        salt: of the digests; random, and forgotten, if left out.
    """

    def __init__(self, *, redact: bool, vocabulary: Collection[str] = (), salt: bytes | None = None) -> None:
        self.redact = redact
        self._vocabulary = frozenset(vocabulary)
        self._salt = salt or secrets.token_bytes(32)

    def text(self, text: str) -> str:
        """One text, as it may be shown."""
        if not self.redact:
            return inert(text)
        if not text or text in self._vocabulary:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(raw, key=self._salt, digest_size=_DIGEST_CHARACTERS // 2).hexdigest()
        return f"[{len(text):,} characters, {digest}]"

    def value(self, value: Any) -> Any:
        """A JSON value with all its texts and keys cleaned; a dataclass becomes an object of its fields."""
        if isinstance(value, str):
            return self.text(value)
        if is_dataclass(value):
            return {field.name: self.value(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def versions(self, versions: dict[str, str]) -> dict[str, str]:
        """Names of packages to versions, which are kept where they look like versions."""
        if not self.redact:
            return {inert(name): inert(version) for name, version in versions.items()}
        return {
            self.text(name): version if _VERSION.fullmatch(version) else self.text(version)
            for name, version in versions.items()
        }
