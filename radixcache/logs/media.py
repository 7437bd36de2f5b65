"""Images, audio and files in a prompt: a run of tokens under a digest of the content.

What the model computes of them is not text. For a cache it is enough to know how many tokens it takes, and
that the same content gives the same ones: a `media` part of a message is
`{"type": "media", "media": "image", "digest": "…", "tokens": 765}`.
"""

from __future__ import annotations

import base64
import binascii
import struct
from math import ceil
from typing import Any

import xxhash

from radixcache.logs.record import InvalidRecordError

__all__ = ["MEDIA", "media_part"]

MEDIA = "media"
"""Type of the parts made here."""

_AUDIO_BYTES_A_TOKEN = 3200  # 16 kHz, 16 bits, a token for each tenth of a second
_FILE_BYTES_A_TOKEN = 4
_UNKNOWN_SIZE = (1024, 1024)
_HEADER_BYTES = 1 << 16


def media_part(
    name: str, kind: str, content: Any, *, tokens: Any = None, detail: Any = None
) -> dict[str, Any]:
    """The part that stands for an image (`kind` "image"), audio or file.

    Args:
        name: the field, for errors.
        content: what identifies it: a URL, a `data:` URL, base64 or an id of a file.
        tokens: how many tokens it takes, where the log says so. Else images are counted as OpenAI does
            (85 for low detail, and 170 for each tile of 512 pixels), those of unknown size as 1,024 by 1,024
            pixels; other content by its bytes.
        detail: "low" for an image that is looked at coarsely.

    Raises:
        InvalidRecordError: there is nothing to identify it by.
    """
    if isinstance(content, dict):
        content = content.get("url") or content.get("data") or content.get("file_id") or content.get("uri")
    if not isinstance(content, str) or not content:
        raise InvalidRecordError(f"{name} is of type {kind} without content: nothing says which it is")
    digest = xxhash.xxh3_128_hexdigest(content.encode())
    if type(tokens) is not int or tokens < 1:
        tokens = _tokens(kind, content, detail)
    return {"type": MEDIA, "media": kind, "digest": digest, "tokens": tokens}


def _tokens(kind: str, content: str, detail: Any) -> int:
    data = _bytes_of(content)
    if kind != "image":
        size = len(content) * 3 // 4 if data is not None else 0
        return max(1, size // (_AUDIO_BYTES_A_TOKEN if kind == "audio" else _FILE_BYTES_A_TOKEN))
    if detail == "low":
        return 85
    width, height = (_size_of(data) if data else None) or _UNKNOWN_SIZE
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return 85 + 170 * ceil(width * scale / 512) * ceil(height * scale / 512)


def _bytes_of(content: str) -> bytes | None:
    """The head of what a `data:` URL or base64 text holds; None for any other text."""
    if content.startswith("data:"):
        content = content.partition(",")[2]
    elif "://" in content[:16] or len(content) < 64:
        return None
    try:
        return base64.b64decode(content[:_HEADER_BYTES], validate=True)
    except (binascii.Error, ValueError):
        return None


def _size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height that a PNG, GIF, WebP or JPEG states; None for what states none."""
    size: tuple[int, int] | None = None
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        size = struct.unpack(">II", data[16:24])
    elif data.startswith(b"GIF8") and len(data) >= 10:
        size = struct.unpack("<HH", data[6:10])
    elif data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        size = 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif data.startswith(b"\xff\xd8"):
        size = _jpeg_size(data)
    return size if size and min(size) > 0 else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
