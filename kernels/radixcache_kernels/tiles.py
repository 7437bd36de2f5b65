"""Tile shapes of the attention kernels, and what of them a plan must know.

A row's bits depend on the length of a split and of a key tile, so these are functions of the model's shapes
alone. They do not depend on the rows of a tile as long as all tiles use the same matrix instruction: on
NVIDIA's Hopper wgmma takes a product if its rows are a multiple of 64 and its warps one of 4, mma.sync any
other, and the two may round differently.
"""

from dataclasses import dataclass
from functools import lru_cache

from radixcache_kernels.splits import SPLIT_TOKENS, SplitRule

MIN_TILE_ROWS = 16
MIN_TILE_KEYS = 16
MAX_TILE_KEYS = 64
KEY_TILE_BYTES = 16 * 1024

# A second launch takes about as long as moving this much.
LAUNCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Tile:
    """One kernel's tile: query rows (heads of a group x tokens), warps, and stages of its load pipeline."""

    rows: int
    warps: int = 4
    stages: int = 3

    @property
    def wgmma(self) -> bool:
        """Whether a Hopper GPU multiplies it by wgmma."""
        return self.rows % 64 == 0 and self.warps % 4 == 0


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of a model's attention.

    Attributes:
        narrow: for items of few rows, above all of one.
        wide: for items of many rows, which share what they read; equal to `narrow`: no second launch.
        prefill: for the chunks of many new tokens.
    """

    narrow: Tile
    wide: Tile
    prefill: Tile

    @property
    def one_instruction(self) -> bool:
        """Whether one instruction multiplies all of them, so that they give a row the same bits."""
        return self.narrow.wgmma == self.wide.wgmma == self.prefill.wgmma


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(SplitRule):
    """What a plan depends on besides the batch.

    Attributes:
        group: query heads a KV head.
        tiles: shapes of the kernels' tiles.
        few_rows: a sequence of at most this many new tokens over a history is attended split by split, like
            a decode; one with more goes through the prefill kernel.
        wide_saving: reads of a split that the launch of wide items must save to be made.
    """

    group: int
    tiles: Tiles
    few_rows: int
    wide_saving: int

    @property
    def narrow_rows(self) -> int:
        """Tokens that a narrow tile takes."""
        return self.tiles.narrow.rows // self.group

    @property
    def wide_rows(self) -> int:
        """Tokens that a wide tile takes."""
        return self.tiles.wide.rows // self.group

    @property
    def prefill_rows(self) -> int:
        """Tokens that a prefill tile takes."""
        return self.tiles.prefill.rows // self.group


def choose_tiles(group: int, kv_bytes: float = 2.0) -> Tiles:
    """Tiles for a number of query heads a KV head and bytes of a number in the pool.

    Up to 32 heads all are for mma.sync.

    A row's decode needs few rows of a product, and fewer registers leave more loads in flight: two warps
    decode faster than four on an H100, from pools of 8 bits by a third. Codes of 4 bits take more registers
    to unpack than two warps have.
    """
    least = max(MIN_TILE_ROWS, _power_of_two(group))
    if least > 32:
        return wgmma_tiles(group)
    wide = Tile(32)
    narrow = Tile(least, warps=2 if kv_bytes >= 1 else 4) if least < wide.rows else wide
    return Tiles(narrow, wide, wide)


def wgmma_tiles(group: int) -> Tiles:
    """Tiles that Hopper's wgmma multiplies: faster where products are the limit, as in a long prefill."""
    least = max(64, _power_of_two(group))
    return Tiles(Tile(least), Tile(least), Tile(max(least, 128), warps=8))


def choose_tile_keys(head_pad: int, element_size: int, split: int) -> int:
    """Keys of an inner tile, of elements of the query's size, for a head padded to a power of two."""
    fitting = KEY_TILE_BYTES // (head_pad * element_size)
    return min(split, max(MIN_TILE_KEYS, min(MAX_TILE_KEYS, fitting)))


@lru_cache(maxsize=64)
def plan_options(
    num_heads: int,
    kv_heads: int,
    head_dim: int,
    block_size: int,
    *,
    kv_bytes: float = 2.0,
    split: int = SPLIT_TOKENS,
    sliding_window: int | None = None,
    tiles: Tiles | None = None,
    share: bool = True,
) -> PlanOptions:
    """The options of plans for layers of a shape.

    kv_bytes: bytes of one number in the pool. sliding_window: as for paged_attention, and the same for both.
    tiles: to try others than the default; they change speed alone. share: False keeps every row's reads its
    own, to compare with.

    A split that a row is alone with costs its keys and values; each row also writes a partial result and
    reads it again, which the prefill kernel does not. But that kernel takes a sequence's splits one after
    another in a single program, and cannot share them with other sequences. So a few tokens go split by
    split for as long as their partials move at most half of what the split itself does.
    """
    group = num_heads // kv_heads
    tiles = choose_tiles(group, kv_bytes) if tiles is None else tiles
    read = 2 * split * head_dim * kv_bytes
    partial = 2 * group * (head_dim + 2) * 4
    return PlanOptions(
        block_size=block_size,
        split=split,
        group=group,
        window=sliding_window,
        tiles=tiles,
        few_rows=max(1, min(int(read / (2 * partial)), tiles.wide.rows // group)),
        wide_saving=max(1, int(LAUNCH_BYTES / (read * kv_heads))),
        share=share,
    )


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
