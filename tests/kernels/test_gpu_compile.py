"""The interpreter accepts what the compiler does not; so compile for a GPU even where there is none."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("compile_for_gpu.py")


def test_every_kernel_compiles_to_hopper_machine_code(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compiled = {line.split()[0]: line.split()[2] for line in done.stdout.splitlines()}
    # One matrix instruction for all attention tiles, or their bits might differ.
    assert compiled == {
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
    }
