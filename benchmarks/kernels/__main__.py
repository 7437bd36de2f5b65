"""Attention kernels against the device's copy bandwidth, our unshared kernel, and torch's own attention.

`python -m benchmarks.kernels` measures every case; `--tune` sweeps tile shapes instead.
"""

from __future__ import annotations

import os

from benchmarks.common import arguments


def main() -> None:
    """Measure, print and write; without a CUDA device, say so and do nothing."""
    parser = arguments("kernels", __doc__, model=None)
    parser.set_defaults(out=None)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with --tiny")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float16", "float32"), help="bfloat16; float32 if tiny"
    )
    parser.add_argument("--tiny", action="store_true", help="every case at a tiny shape, to try the command")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds of timing for each figure")
    parser.add_argument("--tune", action="store_true", help="sweep tile shapes, splits, warps and stages")
    options = parser.parse_args()
    if options.device == "cpu":
        if not options.tiny:
            parser.error("on a CPU only --tiny: the kernels run in triton's interpreter")
        os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported, by any of the below

    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    from benchmarks.kernels.run import run

    run(options)


if __name__ == "__main__":
    main()
