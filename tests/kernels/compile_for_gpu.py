"""A script that compiles every kernel for a GPU that need not be there, and prints a line for each.

Name, matrix instruction, bytes of shared memory, bytes of registers spilled to the stack.
"""

import re
import subprocess
import tempfile
from pathlib import Path
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
from radixcache_kernels.linear import linear_kernel
from radixcache_kernels.linear_tiling import FLOAT_TILES, HALF_TILES, LinearTile
from radixcache_kernels.log_softmax import log_softmax_kernel
from radixcache_kernels.norms import norm_kernel
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
FLOATS = {"score_scale", "cap", "eps"}
LAYERS = {"x", "weight", "bias"}
# What a model's shapes make a multiple of 16, and fresh tensors: without it no load would be a wide one.
ALIGNED = {"out", "x", "weight", "bias", "in_features", "out_features", "x_stride", "weight_stride"}


def argument_type(name: str, kv_format: str) -> str:
    """The type of a kernel's argument in a bfloat16 model."""
    if name in POOLS and kv_format in CODES:
        return CODES[kv_format]
    if name in SCALES and kv_format == "int4":
        return "*i16"
    if name in ROWS | LAYERS:
        return "*bf16"
    if name in PARTIALS:
        return "*fp32"
    if name in INDICES | PLANNED | WORDS:
        return "*i32"
    return "fp32" if name in FLOATS else "i32"


def compile_kernel(
    kernel: Any,
    constants: dict[str, Any],
    tile: Tile | None = None,
    *,
    label: str = "",
    types: dict[str, str] | None = None,
    **options: int,
) -> None:
    launch = {**LAUNCH_OPTIONS, **options}
    if tile is not None:
        constants = {**constants, "tile_rows": tile.rows}
        launch.update(num_warps=tile.warps, num_stages=tile.stages)
        label = f"-{tile.rows}"
    names: list[str] = kernel.arg_names
    kv_format = constants.get("kv_format", "plain")
    signature = {name: argument_type(name, kv_format) for name in names}
    signature |= types or {}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        kernel,
        signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if "x" in names and name in ALIGNED - set(constants)
        },
    )
    compiled = triton.compile(source, target=HOPPER, options=launch)
    ptx = compiled.asm["ptx"]
    instruction = next((name for name in ("wgmma", "mma.sync") if name in ptx), "plain")
    suffix = "" if kv_format == "plain" else f"[{kv_format}]"
    spilled = spilled_bytes(compiled.asm["cubin"])
    print(kernel.__name__ + label + suffix, instruction, compiled.metadata.shared, spilled)


def spilled_bytes(cubin: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return max(int(stack) for stack in re.findall(r"STACK:(\d+)", usage))


def compile_linear(tile: LinearTile, dtype: Any, *, even_in: bool = True, bias: bool = False) -> None:
    constants: dict[str, Any] = {
        "even_in": even_in,
        "tile_rows": tile.rows,
        "tile_outs": tile.outs,
        "tile_ins": tile.ins,
        "together": 8,
        "dot_type": dtype,
    }
    if not bias:
        constants["bias"] = None
    kind = "fp32" if dtype == tl.float32 else "bf16"
    compile_kernel(
        linear_kernel,
        constants,
        label=f"-{kind}-{tile.rows}x{tile.outs}" + ("" if even_in else "-ragged") + ("-bias" if bias else ""),
        types={**dict.fromkeys(("out", "x", "weight", "bias"), f"*{kind}"), "rows": "i32"},
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


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
    moved = {**words, "k_scale_block": 32, "v_scale_block": 32, "to_pool": False}
    compile_kernel(copy_kernel, copied)
    compile_kernel(move_kernel, moved)
    # How codes are read is common to all attention kernels.
    for kv_format in CODES:
        tile = choose_tiles(shape["group"], 0.5 if kv_format == "int4" else 1.0).narrow
        compile_kernel(decode_items_kernel, {**shape, **scoring, "kv_format": kv_format}, tile)
        heads = {"kv_heads": 2, "head_dim": 80, "head_pad": 128, "tile_heads": 2, "full_scale": 127.0}
        compile_kernel(quantise_kernel, {**heads, "kv_format": kv_format})
    for linear_tile in HALF_TILES:
        compile_linear(linear_tile, tl.bfloat16)
    compile_linear(HALF_TILES[0], tl.bfloat16, even_in=False, bias=True)
    compile_linear(HALF_TILES[-1], tl.bfloat16, even_in=False, bias=True)
    for linear_tile in FLOAT_TILES:
        compile_linear(linear_tile, tl.float32)
    row = {"offset": 0.0, "width": 4096, "width_pad": 4096}
    for centre in (False, True):
        norm = {**row, "centre": centre, "round_first": not centre}
        compile_kernel(norm_kernel, norm, label="-layer" if centre else "-rms", num_warps=8)
    compile_kernel(log_softmax_kernel, {"tile": 4096}, types={"out": "*fp32"}, num_warps=8)


if __name__ == "__main__":
    main()
