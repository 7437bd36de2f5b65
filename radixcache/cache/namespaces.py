"""Keys of namespaces: prompts under different keys never share a block."""

from __future__ import annotations

from typing import Any

Namespace = str | bytes
_KINDS = (str, bytes)  # checked for every request, and a union would be made each time


def check_namespace(namespace: Any) -> Namespace:
    """A namespace as it is; ValueError names what is neither a str nor bytes."""
    if not isinstance(namespace, _KINDS):
        raise ValueError(f"namespace must be a str or bytes, got {namespace!r}")
    return namespace


def namespace_key(
    *, salt: str | bytes | None = None, model: str | bytes | None = None, adapter: str | bytes | None = None
) -> bytes:
    """One unambiguous key of a tenant's salt, a model's fingerprint and an adapter.

    Every part carries its length, so no choice of adapter name can look like another salt, and
    a part left out differs from an empty one.  An adapter that is reloaded with other weights
    needs another name or version in `adapter`; a session id does not belong in a key.
    """
    return b"".join(_field(part) for part in (salt, model, adapter))


def encode_namespace(namespace: Namespace) -> bytes:
    """The bytes that stand for a namespace in digests; a str and a bytes key never coincide."""
    return _field(namespace)


def _field(part: str | bytes | None) -> bytes:
    if part is None:
        return b"-"
    kind, raw = (b"s", part.encode("utf-8", "surrogatepass")) if isinstance(part, str) else (b"b", part)
    return kind + len(raw).to_bytes(8, "little") + raw
