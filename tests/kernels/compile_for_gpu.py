"""A script that compiles every kernel for a GPU that need not be there, and prints a line for each."""

from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from radixcache_kernels.block_copy import copy_kernel
from radixcache_kernels.block_gather import move_kernel
from radixcache_kernels.decode import decode_items_kernel, decode_merge_kernel
from radixcache_kernels.jit import LAUNCH_OPTIONS
from radixcache_kernels.kv_write import write_kernel
from radixcache_kernels.prefill import prefill_kernel
from radixcache_kernels.quantize import quantise_kernel
from radixcache_kernels.tiles import Tile, choose_tiles

HOPPER = GPUTarget("cuda", 90, 32)
INDICES = {"block_tables", "seq_lens", "query_starts", "slots", "sources", "targets", "num_tokens", "blocks"}
PLANNED = {"items", "num_items", "rows", "num_rows", "tiles"}
WORDS = {"k_words", "v_words", "k_scale_words", "v_scale_words", "staging"}
PARTIALS = {"part_acc", "part_top", "part_total", "sinks", "k_scales", "v_scales"}
ROWS = {"out", "query", "key", "value", "k_pool", "v_pool"}
POOLS = {"k_pool", "v_pool"}
CODES = {"int8": "*i8", "fp8": "*fp8e4nv", "int4": "*u8"}
SCALES = {"k_scales", "v_scales"}
FLOATS = {"score_scale", "cap"}


def argument_type(name: str, kv_format: str) -> str:
    """The type of a kernel's argument in a bfloat16 model."""
    if name in POOLS and kv_format in CODES:
        return CODES[kv_format]
    if name in SCALES and kv_format == "int4":
        return "*i16"
    if name in ROWS:
        return "*bf16"
    if name in PARTIALS:
        return "*fp32"
    if name in INDICES | PLANNED | WORDS:
        return "*i32"
    return "fp32" if name in FLOATS else "i32"


def compile_kernel(kernel: Any, constants: dict[str, Any], tile: Tile | None = None) -> None:
    launch = dict(LAUNCH_OPTIONS)
    if tile is not None:
        constants = {**constants, "tile_rows": tile.rows}
        launch.update(num_warps=tile.warps, num_stages=tile.stages)
    names: list[str] = kernel.arg_names
    kv_format = constants.get("kv_format", "plain")
    signature = {name: "constexpr" if name in constants else argument_type(name, kv_format) for name in names}
    source = ASTSource(
        kernel, signature, constexprs={(names.index(name),): value for name, value in constants.items()}
    )
    compiled = triton.compile(source, target=HOPPER, options=launch)
    ptx = compiled.asm["ptx"]
    instruction = next((name for name in ("wgmma", "mma.sync") if name in ptx), "plain")
    rows = "" if tile is None else f"-{tile.rows}"
    suffix = "" if kv_format == "plain" else f"[{kv_format}]"
    print(kernel.__name__ + rows + suffix, len(compiled.asm["cubin"]), instruction)


def main() -> None:
    shape = {"group": 4, "kv_heads": 2, "head_dim": 80, "head_pad": 128, "split": 256}
    scoring = {"has_cap": True, "block_size": 16, "tile_keys": 64, "dot_type": tl.bfloat16}
    plain = {"kv_format": "plain", "k_scales": None, "v_scales": None}
    tiles = choose_tiles(shape["group"])
    compile_kernel(prefill_kernel, {**shape, **scoring, **plain}, tiles.prefill)
    compile_kernel(decode_items_kernel, {**shape, **scoring, **plain}, tiles.narrow)
    compile_kernel(decode_items_kernel, {**shape, **scoring, **plain}, tiles.wide)
    compile_kernel(decode_merge_kernel, {**shape, "sinks": None, "tile_heads": 4})
    compile_kernel(write_kernel, {"kv_heads": 2, "head_dim": 80, "chunk": 256})
    words = {"block_words": 1280, "chunk": 2048, "scale_chunk": 32}
    copied = {**words, "token_words": 80, "block_size": 16, "k_token_scales": 2, "v_token_scales": 2}
    moved = {**words, "record_words": 5248, "k_scale_block": 32, "v_scale_block": 32, "to_pool": False}
    compile_kernel(copy_kernel, copied)
    compile_kernel(move_kernel, moved)
    # How codes are read is common to all attention kernels.
    for kv_format in CODES:
        compile_kernel(decode_items_kernel, {**shape, **scoring, "kv_format": kv_format}, tiles.narrow)
        heads = {"kv_heads": 2, "head_dim": 80, "head_pad": 128, "tile_heads": 2, "full_scale": 127.0}
        compile_kernel(quantise_kernel, {**heads, "kv_format": kv_format})


if __name__ == "__main__":
    main()
