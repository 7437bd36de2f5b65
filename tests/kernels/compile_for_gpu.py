"""A script that compiles every kernel for a GPU that need not be there, and prints a line for each."""

from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from radixcache_kernels.block_copy import copy_kernel
from radixcache_kernels.decode import decode_merge_kernel, decode_split_kernel
from radixcache_kernels.jit import LAUNCH_OPTIONS
from radixcache_kernels.kv_write import write_kernel
from radixcache_kernels.prefill import prefill_kernel

HOPPER = GPUTarget("cuda", 90, 32)
INDICES = {"block_tables", "seq_lens", "query_starts", "slots", "sources", "targets", "num_tokens"}
PARTIALS = {"part_acc", "part_top", "part_total", "sinks"}
ROWS = {"out", "query", "key", "value", "k_pool", "v_pool"}
FLOATS = {"score_scale", "cap"}


def argument_type(name: str) -> str:
    """The type of a kernel's argument in a bfloat16 model."""
    if name in ROWS:
        return "*bf16"
    if name in PARTIALS:
        return "*fp32"
    if name in INDICES:
        return "*i32"
    return "fp32" if name in FLOATS else "i32"


def compile_kernel(kernel: Any, constants: dict[str, Any]) -> None:
    names: list[str] = kernel.arg_names
    signature = {name: "constexpr" if name in constants else argument_type(name) for name in names}
    source = ASTSource(
        kernel, signature, constexprs={(names.index(name),): value for name, value in constants.items()}
    )
    compiled = triton.compile(source, target=HOPPER, options=LAUNCH_OPTIONS)
    tensor_cores = "mma" in compiled.asm["ptx"]
    print(kernel.__name__, len(compiled.asm["cubin"]), "tensor-cores" if tensor_cores else "plain")


def main() -> None:
    shape = {"group": 4, "kv_heads": 2, "head_dim": 80, "head_pad": 128, "tile_rows": 16, "split": 256}
    scoring = {"has_cap": True, "block_size": 16, "tile_keys": 64, "dot_type": tl.bfloat16}
    compile_kernel(prefill_kernel, {**shape, **scoring})
    compile_kernel(decode_split_kernel, {**shape, **scoring})
    compile_kernel(decode_merge_kernel, {**shape, "sinks": None})
    compile_kernel(write_kernel, {"kv_heads": 2, "head_dim": 80, "chunk": 256})
    compile_kernel(copy_kernel, {"block_elements": 2560, "token_elements": 160, "chunk": 4096})


if __name__ == "__main__":
    main()
