"""The storage formats: their bits, number by number and as they have always been, without triton."""

import ast
import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import radixcache_kernels
from radixcache_kernels import formats


def numbers(head_dim: int) -> Tensor:
    """`[5, 3, head_dim]` of many sizes, a head of zeros, an infinity and a NaN among them."""
    index = torch.arange(5 * 3 * head_dim, dtype=torch.int64)
    mixed = ((index * 2654435761 + 12345) % 65521).double() / 65521 - 0.5
    sizes = 2.0 ** ((index // head_dim) % 9 - 4).double()
    rows = (mixed * sizes * 3).float().view(5, 3, head_dim)
    rows[1, 1], rows[2, 0, 3], rows[3, 2, 5] = 0.0, torch.inf, torch.nan
    return rows


def digest(*tensors: Tensor) -> str:
    """Of the bytes of codes and scales."""
    data = b"".join(tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(data).hexdigest()[:16]


# Blocks on disks and in other processes hold these bits: a change here makes them unreadable.
@pytest.mark.parametrize(
    ("stored", "keys", "head_dim", "codes", "scales", "single", "half"),
    [
        (
            torch.int8,
            True,
            48,
            "bb8b0d67ee59a188",
            "6f54e6b18bb0502f",
            "74dc74d05b1ff9fd",
            "c2ec20b3772c745a",
        ),
        (
            torch.int8,
            False,
            64,
            "65bee6ed4243f0c4",
            "637aad64b8e94684",
            "f3df64ce76f4247b",
            "a49c5050836215dd",
        ),
        (
            torch.float8_e4m3fn,
            True,
            48,
            "fb0ff2993033f639",
            "440fc2c2750f9319",
            "fc16a4779fb5bd51",
            "aca4bcb696b38fec",
        ),
        (
            torch.float8_e4m3fn,
            False,
            64,
            "7fe385c9d8b96fe0",
            "893b0e1910ec5f8b",
            "d75b58e4305b5f43",
            "1f1637c43ab45159",
        ),
        (
            torch.uint8,
            True,
            48,
            "64744ebb9f686938",
            "d0d45f39ddb00dcb",
            "160073376ceea429",
            "00a630bdea338435",
        ),
        (
            torch.uint8,
            True,
            64,
            "d25e84511dfdecf0",
            "7c4595516097da5e",
            "c4d17eef2900d210",
            "862c9182fe871834",
        ),
        (
            torch.uint8,
            False,
            48,
            "f78ed26ef8e1f2e5",
            "216bc943e6950ae8",
            "05bd922bb3229e27",
            "73dc2da8555d619a",
        ),
        (
            torch.uint8,
            False,
            64,
            "4644eec9c9fc5bf5",
            "74fede79da6de4b3",
            "8c04fa753a8b2d3f",
            "fda9309c92c00ad3",
        ),
    ],
)
def test_stored_bits_are_those_of_earlier_versions(
    stored: torch.dtype, keys: bool, head_dim: int, codes: str, scales: str, single: str, half: str
) -> None:
    found = formats.quantise(numbers(head_dim), stored, keys=keys)
    assert [digest(part) for part in found] == [codes, scales]
    assert digest(formats.dequantise(*found, torch.float32).nan_to_num(7.0)) == single
    assert digest(formats.dequantise(*found, torch.bfloat16).nan_to_num(7.0)) == half


def upper(number: np.float32, *, up: bool) -> np.float32:
    """The nearest float32 not below (or not above) a finite number whose lower half is zero."""
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    towards_zero = struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0]
    if bits & 0xFFFF == 0 or (number > 0) != up:
        return np.float32(towards_zero)
    return np.float32(struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF0000) + 0x10000))[0])


@pytest.mark.parametrize("keys", [True, False])
def test_int4_written_out_number_by_number(keys: bool) -> None:
    rows = numbers(48)[:1]
    codes, words = formats.quantise(rows, torch.uint8, keys=keys)
    levels = 63 if keys else 15
    for head in range(3):
        zeros, steps, plain = [], [], []
        for group in rows[0, head].numpy().reshape(3, 16):
            zeros.append(upper(group.min(), up=False))
            steps.append(upper(np.float32((group.max() - zeros[-1]) / np.float32(levels)), up=True))
            plain += [min(int(np.rint((x - zeros[-1]) / steps[-1])), levels) for x in group]
        nibbles = [code & 15 for code in plain]
        assert codes[0, head].tolist() == [
            low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True)
        ]
        stored = [struct.unpack("<HH", struct.pack("<f", number))[1] for number in (*zeros, *steps)]
        if keys:
            eights = np.asarray(plain).reshape(-1, 8) >> 4
            stored += [int(sum(code << 2 * place for place, code in enumerate(eight))) for eight in eights]
        assert [word & 0xFFFF for word in words[0, head].tolist()] == stored


@pytest.mark.parametrize("stored", list(formats.CODES))
@pytest.mark.parametrize("keys", [True, False])
def test_float64_gives_what_codes_stand_for_and_narrower_types_round_it(
    stored: torch.dtype, keys: bool
) -> None:
    rows = numbers(64)[:2]
    codes, scales = formats.quantise(rows, stored, keys=keys)
    exact = formats.dequantise(codes, scales, torch.float64)
    if stored != torch.uint8:
        assert torch.equal(exact, codes.double() * scales.double().unsqueeze(-1))
    single = formats.dequantise(codes, scales, torch.float32)
    # A product, and of int4 a sum, each rounded to 24 bits.
    assert ((single.double() - exact).abs() <= rows.double().abs().amax(-1, keepdim=True) * 2**-22).all()
    assert torch.equal(formats.dequantise(codes, scales, torch.bfloat16), single.bfloat16())


@pytest.mark.parametrize("stored", list(formats.CODES))
def test_no_tokens_are_no_codes(stored: torch.dtype) -> None:
    codes, scales = formats.quantise(torch.empty(0, 3, 64), stored, keys=True)
    assert codes.shape == (0, 3, formats.stored_width(stored, 64))
    assert formats.dequantise(codes, scales, torch.float32).shape == (0, 3, 64)


def test_widths_and_scales_name_what_a_pool_needs() -> None:
    assert formats.stored_width(torch.uint8, 64) == 32
    assert formats.stored_width(torch.int8, 64) == 64
    assert formats.head_scales(torch.bfloat16, 64, keys=True) is None
    assert formats.head_scales(torch.int8, 40, keys=True) == ((), torch.float32)
    assert formats.head_scales(torch.uint8, 64, keys=True) == ((12,), torch.int16)
    assert formats.head_scales(torch.uint8, 48, keys=False) == ((6,), torch.int16)
    with pytest.raises(ValueError, match="int4 needs heads of a multiple of 16 elements, not 40"):
        formats.head_scales(torch.uint8, 40, keys=True)
    pool = torch.empty(3, 4, 2, 24, dtype=torch.uint8)
    assert formats.head_dim_of(pool) == 48
    assert formats.scales_of(pool, keys=False) == ((3, 4, 2, 6), torch.int16)


def test_formats_and_plans_are_imported_without_triton() -> None:
    code = "import sys; sys.modules['triton'] = None; import radixcache_kernels.planner, radixcache.kv.pool"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    missing = [name for name in radixcache_kernels.__all__ if not hasattr(radixcache_kernels, name)]
    assert missing == []
    with pytest.raises(AttributeError, match="has no attribute 'paged_atention'"):
        radixcache_kernels.paged_atention  # noqa: B018 - the access raises


def test_the_kernels_do_not_depend_on_the_engine() -> None:
    folder = Path(radixcache_kernels.__file__).parent
    imported = [
        name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert {name.partition(".")[0] for name in imported} <= {
        "radixcache_kernels",
        "torch",
        "triton",
        "numpy",
        *sys.stdlib_module_names,
    }
    assert (folder / "py.typed").exists()
