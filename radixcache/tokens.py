"""Token sequences as packed bytes: one little-endian int32 a token.

A prompt is packed once, where it comes in.  From then on a comparison is memcmp and a slice is
memcpy; nothing loops over tokens in Python.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Set
from operator import index
from typing import Any

import numpy as np

from radixcache.errors import TokenError

TOKEN_BYTES = 4
TOKEN_LIMIT = 2**31
_XOR_TOKENS = 64  # below this, one XOR of two big integers beats further bisection
_VIEW_BYTES = 1 << 13  # above this, slices are taken as views and not copied
_PIECE_BYTES = 1 << 16  # compared at a time
_SWAP = sys.byteorder != "little"


class PackedTokens(bytes):
    """The result of `pack`: packed and validated, so packing it again costs nothing."""

    __slots__ = ()


def pack(tokens: Any) -> PackedTokens:
    """Pack token ids into one contiguous little-endian int32 buffer of `4 * len(tokens)` bytes.

    Accepts lists, tuples, ranges, arrays, one-dimensional integer numpy arrays and torch tensors,
    any other iterable of integers that has an order, and bytes (or a view of bytes) that are packed already.

    Raises:
        TokenError: an id that is not an integer (bool and float are not) or lies outside
            [0, 2**31), naming position and value; or something that is no token sequence.
    """
    if type(tokens) is PackedTokens:
        return tokens
    if isinstance(tokens, list | tuple | range):
        return _pack_items(tokens)
    if isinstance(tokens, memoryview) and tokens.itemsize == 1:
        tokens = bytes(tokens)
    if isinstance(tokens, bytes | bytearray):
        if len(tokens) % TOKEN_BYTES:
            raise TokenError(f"packed tokens are 4 bytes each, got {len(tokens)} bytes")
        return _pack_array(np.frombuffer(tokens, "<i4"))
    if isinstance(tokens, str):
        raise TokenError("token ids expected, got a str: tokenize it first")
    if hasattr(tokens, "detach"):  # a torch tensor, on any device
        try:
            tokens = tokens.detach().cpu().numpy()
        except TypeError:  # numpy does not know bfloat16
            raise TokenError(f"token ids must be integers, got dtype {tokens.dtype}") from None
    if isinstance(tokens, np.ndarray | array | memoryview):
        return _pack_array(np.asarray(tokens))
    if not isinstance(tokens, Iterable) or isinstance(tokens, Set | Mapping):
        raise TokenError(f"a sequence of token ids expected, got {type(tokens).__name__}")
    return _pack_items(list(tokens))


def _pack_items(items: list[Any] | tuple[Any, ...] | range) -> PackedTokens:
    try:
        packed = array("I", items)  # three times as fast as "i", and refuses what is negative
    except (TypeError, OverflowError):
        raise _first_bad(items) from None
    if packed:
        # bool packs as 0 or 1, so only such ids need a look at their type; subtracting 2 wraps them
        # around to the top, where whatever is out of range is already
        shifted = np.frombuffer(packed, np.uint32) - 2
        if shifted.max() >= TOKEN_LIMIT - 2:
            suspects = np.flatnonzero(shifted >= TOKEN_LIMIT - 2).tolist()
            if any(type(items[i]) is bool or items[i] >= TOKEN_LIMIT for i in suspects):
                raise _first_bad(items)
    if _SWAP:
        packed.byteswap()
    return PackedTokens(packed)


def _pack_array(ids: np.ndarray[Any, Any]) -> PackedTokens:
    if ids.ndim != 1:
        raise TokenError(f"token ids must be one-dimensional, got shape {ids.shape}")
    if ids.size and ids.dtype.kind not in "iu":
        raise TokenError(f"token ids must be integers, got dtype {ids.dtype} (position 0 is {ids[0]!r})")
    bad = (ids < 0) | (ids >= TOKEN_LIMIT) if ids.dtype.itemsize >= TOKEN_BYTES else ids < 0
    if bad.any():
        position = int(bad.argmax())
        raise _bad_token(position, int(ids[position]))
    return PackedTokens(ids.astype("<i4", copy=False).tobytes())


def _first_bad(items: Iterable[Any]) -> TokenError:
    for position, item in enumerate(items):
        try:
            value = index(item)
        except TypeError:
            value = None
        if isinstance(item, bool) or value is None:
            return TokenError(f"token {position} is not an integer: {item!r}")
        if not 0 <= value < TOKEN_LIMIT:
            return _bad_token(position, value)
    raise AssertionError("no bad token found in a sequence that did not pack")


def _bad_token(position: int, value: int) -> TokenError:
    return TokenError(f"token {position} is out of range: {value} is not in [0, 2**31)")


def unpack(buf: bytes | bytearray) -> list[int]:
    """The token ids of a packed buffer."""
    return np.frombuffer(buf, "<i4").tolist()  # type: ignore[no-any-return]


def common_prefix(
    a: bytes | bytearray,
    b: bytes | bytearray,
    a_offset: int = 0,
    b_offset: int = 0,
    limit: int | None = None,
) -> int:
    """Tokens that `a[a_offset:]` and `b[b_offset:]` have in common, at most `limit` of them.

    Offsets are in bytes, the result is in tokens.  What is long is compared piece by piece; in the
    piece that differs the first mismatch is found by bisection, one memcmp a step, and within the
    last few tokens by the lowest set bit of an XOR: O(length) bytes compared, each about once, and
    O(length / 64 KiB) Python steps.
    """
    high = min(len(a) - a_offset, len(b) - b_offset) // TOKEN_BYTES
    if limit is not None and limit < high:
        high = limit
    low = 0
    if high > _XOR_TOKENS:
        source = memoryview(b) if high * TOKEN_BYTES > _VIEW_BYTES else b
        end = high * TOKEN_BYTES
        for start in range(0, end, _PIECE_BYTES):
            stop = min(start + _PIECE_BYTES, end)
            if not a.startswith(source[b_offset + start : b_offset + stop], a_offset + start):
                low, high = start // TOKEN_BYTES, stop // TOKEN_BYTES
                break
        else:
            return high
        while high - low > _XOR_TOKENS:
            middle = (low + high) // 2
            start = low * TOKEN_BYTES
            half = source[b_offset + start : b_offset + middle * TOKEN_BYTES]
            if a.startswith(half, a_offset + start):
                low = middle
            else:
                high = middle
    start, stop = low * TOKEN_BYTES, high * TOKEN_BYTES
    difference = int.from_bytes(a[a_offset + start : a_offset + stop], "little") ^ int.from_bytes(
        b[b_offset + start : b_offset + stop], "little"
    )
    if not difference:
        return high
    return low + ((difference & -difference).bit_length() - 1) // (8 * TOKEN_BYTES)
