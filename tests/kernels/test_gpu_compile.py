"""The interpreter accepts what the compiler does not; so compile for a GPU even where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compile_for_gpu.py")
HOPPER_SHARED_BYTES = 227 * 1024


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int, int]]:
    """By kernel: its matrix instruction, bytes of shared memory, bytes spilled."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name: (instruction, int(shared), int(spilled)) for name, instruction, shared, spilled in lines}


def test_every_kernel_compiles_to_hopper_machine_code(compiled: dict[str, tuple[str, int, int]]) -> None:
    # One matrix instruction for all attention tiles, and one for all tiles of linear layers, or their bits
    # might differ.
    assert {name: instruction for name, (instruction, _, _) in compiled.items()} == {
        "prefill_kernel-32": "mma.sync",
        "decode_items_kernel-16": "mma.sync",
        "decode_items_kernel-32": "mma.sync",
        "decode_merge_kernel": "plain",
        "write_kernel": "plain",
        "copy_kernel": "plain",
        "move_kernel": "plain",
        "quantise_kernel[int8]": "plain",
        "quantise_kernel[fp8]": "plain",
        "decode_items_kernel-16[int8]": "mma.sync",
        "decode_items_kernel-16[fp8]": "mma.sync",
        "quantise_kernel[int4]": "plain",
        "decode_items_kernel-16[int4]": "mma.sync",
        "linear_kernel-bf16-64x16": "wgmma",
        "linear_kernel-bf16-64x32": "wgmma",
        "linear_kernel-bf16-64x64": "wgmma",
        "linear_kernel-bf16-64x128": "wgmma",
        "linear_kernel-bf16-128x128": "wgmma",
        "linear_kernel-bf16-128x256": "wgmma",
        "linear_kernel-bf16-64x16-ragged-bias": "wgmma",
        "linear_kernel-bf16-128x256-ragged-bias": "wgmma",
        "linear_kernel-fp32-16x32": "plain",
        "linear_kernel-fp32-64x64": "plain",
        "norm_kernel-rms": "plain",
        "norm_kernel-layer": "plain",
        "log_softmax_kernel": "plain",
    }


def test_kernels_fit_a_processor(compiled: dict[str, tuple[str, int, int]]) -> None:
    for name, (_, shared, spilled) in compiled.items():
        assert shared <= HOPPER_SHARED_BYTES, name
        # Attention tiles hold as much in registers as there are, and some versions spill a few bytes.
        assert spilled == 0 or name.startswith(("prefill_kernel", "decode_items_kernel")), name
        assert spilled <= 128, name
