"""Pools of codes: rounding, writing and attending."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from kernel_batches import ABSOLUTE, RELATIVE, SPLIT, Batch, make_batch
from torch import Tensor

from radixcache_kernels import KernelInputError, paged_attention, write_kv
from radixcache_kernels.formats import FULL_SCALE, dequantise, format_of, group_of, quantise, side_words
from radixcache_kernels.reference import paged_attention_reference

CODE_TYPES = [torch.int8, torch.float8_e4m3fn]
FORMATS = [*CODE_TYPES, torch.uint8]
NAN = float("nan")


def same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


def empty_pool(shape: tuple[int, ...], code_type: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """A pool whose every slot is poison: codes that are not zero, scales that are NaN."""
    codes = torch.full(shape, 99.0).to(code_type).to(device)
    return codes, torch.full(shape[:-1], NAN, device=device)


def written(rows: Tensor, code_type: torch.dtype) -> tuple[Tensor, Tensor]:
    """Codes and scales of rows `[n, heads, head_dim]` as written, as keys and as values alike."""
    shape = (len(rows), 1, *rows.shape[1:])
    keys, values = (empty_pool(shape, code_type, rows.device) for _ in range(2))
    slots = torch.arange(len(rows), device=rows.device)
    write_kv(rows, rows, keys[0], values[0], slots, k_scales=keys[1], v_scales=values[1], debug=True)
    assert all(same_bits(*pair) for pair in zip(keys, values, strict=True))
    return keys[0][:, 0], keys[1][:, 0]


@pytest.mark.parametrize("code_type", CODE_TYPES)
@settings(max_examples=12, deadline=None)
@given(
    heads=st.integers(1, 5),
    head_dim=st.sampled_from([16, 64, 80, 96, 256]),
    size=st.sampled_from([1e-30, 1e-4, 1.0, 37.0, 3e30]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_a_number_is_off_by_half_a_step_at_most(
    code_type: torch.dtype,
    heads: int,
    head_dim: int,
    size: float,
    dtype: torch.dtype,
    seed: int,
    device: torch.device,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.randn(2, heads, head_dim, generator=generator) * size).clamp(-6e4, 6e4).to(dtype).to(device)
    rows[1] = 0.0
    codes, scales = written(rows, code_type)
    expected_codes, expected_scales = quantise(rows, code_type, keys=True)
    assert same_bits(scales, expected_scales)
    assert torch.equal(codes.float(), expected_codes.float())
    off = (dequantise(codes, scales, torch.float64) - rows.double()).abs()
    steps = scales.double().unsqueeze(-1)
    if code_type == torch.int8:
        bound = steps * 0.5
    else:
        # Three bits after the leading one; below 2**-6 of a code the steps are 2**-9.
        bound = torch.maximum(rows.double().abs() * 2**-4, steps * 2**-10)
    # A quotient of up to 127 or 448 steps is itself rounded to 24 bits.
    assert (off <= bound + steps * 2**-15).all()
    assert (codes[1].float() == 0).all()
    assert codes.float().abs().amax() <= FULL_SCALE[format_of(codes)]


@settings(max_examples=12, deadline=None)
@given(
    heads=st.integers(1, 5),
    head_dim=st.sampled_from([16, 64, 80, 96, 256]),
    size=st.sampled_from([1e-20, 1e-4, 1.0, 37.0]),
    offset=st.sampled_from([0.0, 3.0, -200.0]),
    seed=st.integers(0, 1000),
)
def test_a_number_of_int4_is_off_by_half_a_step_at_most(
    heads: int, head_dim: int, size: float, offset: float, seed: int, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.randn(2, heads, head_dim, generator=generator) * size + offset).to(device)
    rows[1, 0] = offset
    pools = [torch.full((2, 1, heads, head_dim // 2), 99, dtype=torch.uint8, device=device) for _ in range(2)]
    sides = [
        torch.full((2, 1, heads, side_words(head_dim, keys=keys)), -1, dtype=torch.int16, device=device)
        for keys in (True, False)
    ]
    slots = torch.arange(2, device=device)
    write_kv(rows, rows, *pools, slots, k_scales=sides[0], v_scales=sides[1], debug=True)
    groups = head_dim // group_of(head_dim)
    for pool, side, keys in zip(pools, sides, (True, False), strict=True):
        codes, words = quantise(rows, torch.uint8, keys=keys)
        assert torch.equal(pool[:, 0], codes)
        assert torch.equal(side[:, 0], words)
        steps = (words[..., groups : 2 * groups].int() << 16).view(torch.float32).double()
        off = (dequantise(codes, words, torch.float64) - rows.double()).abs().view(2, heads, groups, -1)
        # Beside half a step, the rounding of (x - zero) to 24 bits.
        bound = steps * (0.5 + 2**-15) + abs(offset) * 2**-23
        assert (off <= bound.unsqueeze(-1)).all()


def test_int4_rows_that_are_not_finite_do_not_become_numbers(device: torch.device) -> None:
    rows = torch.randn(1, 2, 64, generator=torch.Generator().manual_seed(4)).to(device)
    rows[0, 1, 40] = NAN
    pools = [torch.zeros(1, 1, 2, 32, dtype=torch.uint8, device=device) for _ in range(2)]
    sides = [torch.zeros(1, 1, 2, words, dtype=torch.int16, device=device) for words in (12, 4)]
    slots = torch.zeros(1, dtype=torch.int64, device=device)
    write_kv(rows, rows, *pools, slots, k_scales=sides[0], v_scales=sides[1])
    for pool, side in zip(pools, sides, strict=True):
        numbers = dequantise(pool, side, torch.float64)[0, 0]
        assert not numbers[1, 32:].isfinite().any()
        assert numbers[0].isfinite().all()
        assert numbers[1, :32].isfinite().all()


@pytest.mark.parametrize("code_type", CODE_TYPES)
@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_what_is_not_finite_does_not_become_a_number(
    code_type: torch.dtype, bad: float, device: torch.device
) -> None:
    rows = torch.randn(2, 2, 16, generator=torch.Generator().manual_seed(1)).to(device)
    rows[1, 0, 3] = bad
    _, scales = written(rows, code_type)
    assert not scales[1, 0].isfinite()
    assert scales[[0, 0, 1], [0, 1, 1]].isfinite().all()


def test_ties_go_to_the_even_code(device: torch.device) -> None:
    # A head whose greatest number is the greatest code has steps of one.
    whole = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -127.0] * 2, device=device)
    codes, _ = written(whole.view(1, 1, 16), torch.int8)
    assert codes.flatten()[:8].tolist() == [127, 0, 2, 2, 0, -2, 126, -127]
    eights = torch.tensor([448.0, 17.0, 19.0, 126.0, -125.0, 2**-10, 3 * 2**-10, 432.0] * 2, device=device)
    codes, _ = written(eights.view(1, 1, 16), torch.float8_e4m3fn)
    assert codes.flatten()[:8].tolist() == [448.0, 16.0, 20.0, 128.0, -128.0, 0.0, 2**-8, 448.0]


@pytest.mark.parametrize("code_type", CODE_TYPES)
def test_only_the_named_slots_are_written(code_type: torch.dtype, device: torch.device) -> None:
    rows = torch.randn(4, 3, 80, generator=torch.Generator().manual_seed(2)).to(device)
    (k_pool, k_scales), (v_pool, v_scales) = (empty_pool((5, 8, 3, 80), code_type, device) for _ in range(2))
    before = k_pool.clone()
    slots = torch.tensor([33, -1, 0, 39], device=device, dtype=torch.int32)
    fused = torch.cat([rows, rows * 2], dim=1)
    write_kv(fused[:, :3], fused[:, 3:], k_pool, v_pool, slots, k_scales=k_scales, v_scales=v_scales)
    places = slots[[0, 2, 3]].long()
    for pool, scales, numbers in ((k_pool, k_scales, rows), (v_pool, v_scales, rows * 2)):
        codes, steps = quantise(numbers[[0, 2, 3]], code_type, keys=True)
        assert same_bits(pool.flatten(0, 1)[places], codes)
        assert same_bits(scales.flatten(0, 1)[places], steps)
        others = torch.ones(40, dtype=torch.bool, device=device)
        others[places] = False
        assert same_bits(pool.flatten(0, 1)[others], before.flatten(0, 1)[others])
        assert scales.flatten(0, 1)[others].isnan().all()


def test_scales_that_do_not_fit_are_refused(device: torch.device) -> None:
    (k_pool, k_scales), (v_pool, v_scales) = (empty_pool((5, 8, 3, 16), torch.int8, device) for _ in range(2))
    rows, slots = torch.zeros(1, 3, 16, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    with pytest.raises(KernelInputError, match="k_scales is missing, not"):
        write_kv(rows, rows, k_pool, v_pool, slots)
    with pytest.raises(KernelInputError, match=r"v_scales is \(5, 8, 2\)"):
        write_kv(rows, rows, k_pool, v_pool, slots, k_scales=k_scales, v_scales=v_scales[:, :, :2])
    with pytest.raises(KernelInputError, match=r"v_scales is .* torch\.float16"):
        write_kv(rows, rows, k_pool, v_pool, slots, k_scales=k_scales, v_scales=v_scales.half())
    halves = torch.zeros(5, 8, 3, 12, dtype=torch.uint8, device=device)
    with pytest.raises(KernelInputError, match="int4 needs heads of a multiple of 16 elements, not 24"):
        write_kv(rows, rows, halves, halves.clone(), slots)
    plain = torch.zeros(5, 8, 3, 16, device=device)
    with pytest.raises(
        KernelInputError, match=r"k_scales is given, but a pool of torch\.float32 has no scales"
    ):
        write_kv(rows, rows, plain, plain.clone(), slots, k_scales=k_scales, v_scales=v_scales)


def quantised(batch: Batch, code_type: torch.dtype) -> tuple[Batch, dict[str, Tensor]]:
    """The batch over pools of codes; what was NaN stands for no finite number."""
    codes, scales = {}, {}
    for name, keys in (("k_pool", True), ("v_pool", False)):
        pool = getattr(batch, name)
        codes[name], side = quantise(pool.nan_to_num(5.0), code_type, keys=keys)
        side[pool.isnan().any(-1)] = NAN if side.is_floating_point() else 0x7FC0  # the upper half of a NaN
        scales[name] = side
    return replace(batch, **codes), {"k_scales": scales["k_pool"], "v_scales": scales["v_pool"]}


@pytest.mark.parametrize("code_type", FORMATS)
@pytest.mark.parametrize(
    ("head_dim", "dtype", "options"),
    [
        (80, torch.float32, {}),
        (64, torch.float16, {"sliding_window": 21}),
        (80, torch.bfloat16, {"soft_cap": 5.0}),
    ],
)
def test_attention_reads_codes_as_float64_does(
    code_type: torch.dtype, head_dim: int, dtype: torch.dtype, options: dict[str, float], device: torch.device
) -> None:
    lengths, rows = [SPLIT + 19, 1, 16], [5, 1, 2]
    batch = make_batch(
        lengths, rows, head_dim=head_dim, dtype=dtype, shared_tokens=16, padding=2, device=device
    )
    coded, scales = quantised(batch, code_type)
    exact = replace(
        batch,
        k_pool=dequantise(coded.k_pool, scales["k_scales"], torch.float64),
        v_pool=dequantise(coded.v_pool, scales["v_scales"], torch.float64),
    )
    expected = paged_attention_reference(*exact.arguments(), scale=0.125, **options)
    # What codes stand for is rounded to the query's type before it is multiplied.
    tolerance = {"rtol": RELATIVE[dtype], "atol": 3 * ABSOLUTE[dtype]}
    result = coded.run(**scales, **options)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, **tolerance)
    alone = coded.select([(0, row, row + 1) for row in range(5)]).run(num_decodes=5, **scales, **options)
    assert torch.equal(alone, result[:5])


@pytest.mark.parametrize("code_type", FORMATS)
def test_a_pool_of_codes_without_scales_cannot_be_attended(
    code_type: torch.dtype, device: torch.device
) -> None:
    coded, _ = quantised(make_batch([9], [1], device=device), code_type)
    with pytest.raises(KernelInputError, match="k_scales is missing"):
        paged_attention(*coded.arguments(), scale=1.0)


def test_half_a_pool_under_float32_queries(device: torch.device) -> None:
    batch = make_batch([SPLIT + 3, 5], [4, 1], device=device)
    half = replace(batch, k_pool=batch.k_pool.half(), v_pool=batch.v_pool.half())
    expected = half.reference()
    torch.testing.assert_close(half.run().double(), expected, rtol=2**-20, atol=3e-6)
