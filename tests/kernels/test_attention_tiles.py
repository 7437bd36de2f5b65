"""The trial of attention tiles at start-up: what it passes, and that it finds what it must."""

import pytest
import torch
from torch import Tensor

from radixcache_kernels import AttentionShape, Tile, Tiles, attention_bits, same_bits_attention

F16, BF16 = torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    "shape",
    [
        AttentionShape(6, 1, 16, F16, F16),
        AttentionShape(6, 1, 32, F16, torch.int8, block_size=8, window=50, soft_cap=5.0),
    ],
)
def test_tiles_that_will_run_pass(shape: AttentionShape, device: torch.device, few_counts: None) -> None:
    assert attention_bits(shape, device, split=32) is None


def test_other_bits_of_a_decode_are_found_and_named(
    device: torch.device, few_counts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = same_bits_attention.paged_attention

    def by_kind(*arguments: Tensor, **options: object) -> Tensor:
        result = plain(*arguments, **options)
        decode = len(arguments[4]) > 1
        return torch.nextafter(result.float(), torch.tensor(9.0)) if decode else result.float()

    monkeypatch.setattr(same_bits_attention, "paged_attention", by_kind)
    found = attention_bits(AttentionShape(2, 1, 16, F16, F16), device, split=32)
    assert found == (
        "attention of 2 query and 1 KV heads of 16 in torch.float16 gives a decode other bits than a prefill"
    )


MODELS = [(32, 8, 128), (9, 3, 64), (16, 16, 128), (8, 1, 256)]


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), MODELS)
@pytest.mark.parametrize("stored", [None, torch.int8, torch.float8_e4m3fn, torch.uint8])
@pytest.mark.parametrize("dtype", [F16, BF16])
def test_tiles_of_models_pass_on_a_gpu(
    heads: int,
    kv_heads: int,
    head_dim: int,
    stored: torch.dtype | None,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    shape = AttentionShape(heads, kv_heads, head_dim, dtype, stored or dtype)
    assert attention_bits(shape, device) is None


@pytest.mark.gpu
def test_wgmma_alone_gives_one_result_too(device: torch.device) -> None:
    tiles = Tiles(Tile(64), Tile(64), Tile(128, warps=8))
    assert tiles.one_instruction
    assert attention_bits(AttentionShape(32, 8, 128, BF16, BF16), device, tiles=tiles) is None
