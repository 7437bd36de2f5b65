"""One case: right first, then fast; ours with and without sharing, and torch's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernels.cases import Case, Shape
from benchmarks.kernels.ceilings import Ceilings
from benchmarks.kernels.inputs import Inputs, make_inputs
from benchmarks.kernels.peers import NotTakenError, in_our_order, peer_call
from benchmarks.kernels.timing import Timing, time_calls

# Of the largest result: a last place of it, and the rounding of the probabilities.
RELATIVE = {torch.float32: 2**-18, torch.float16: 2**-9, torch.bfloat16: 2**-6}
# Float64 scores of more rows of long sequences would not fit on a device.
CHECKED_ROWS = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cases of a run have in common.

    Attributes:
        split: tokens of a split; None is the kernels' own choice.
        budget_s: seconds of timing for each figure.
        tiny: results are checked in full, and figures mean nothing.
    """

    shape: Shape
    dtype: torch.dtype
    device: torch.device
    seed: int
    split: int | None
    budget_s: float
    tiny: bool


@dataclass(slots=True)
class Found:
    """What was measured of a case.

    Attributes:
        timing, unshared: of our kernels; the latter without sharing, bit for bit the same result.
        peers: by name, a timing or why there is none.
        measures: derived figures by name; those of goals and for information.
        error: largest difference from the float64 reference.
    """

    case: Case
    bytes_moved: int
    error: float
    timing: Timing
    unshared: Timing | None = None
    peers: dict[str, Timing | str] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "case": self.case.name,
            "sequences": len(self.case.lengths),
            "tokens": sum(self.case.lengths),
            "bytes_moved": self.bytes_moved,
            "error": self.error,
            "timing": asdict(self.timing),
            "unshared": None if self.unshared is None else asdict(self.unshared),
            "peers": {name: v if isinstance(v, str) else asdict(v) for name, v in self.peers.items()},
            "measures": self.measures,
            "goals": [
                {**asdict(goal), "met": goal.met(self.measures[goal.measure])}
                for goal in self.case.goals
                if goal.measure in self.measures
            ],
        }


def measure(case: Case, setting: Setting, ceilings: Ceilings, earlier: dict[str, Found]) -> Found:
    """Check and time a case. `earlier` are the cases before it, by name.

    Raises:
        AssertionError: a result is wrong.
    """
    inputs = make_inputs(case, setting.shape, setting.dtype, setting.device, setting.seed)
    options = inputs.options(share=True, split=setting.split)
    calls = [inputs.call(copy, options) for copy in inputs.copies]
    result = calls[0]().clone()
    error = check(result, inputs, all_sequences=setting.tiny)
    found = Found(case, inputs.bytes_moved, error, time_calls(calls, setting.device, setting.budget_s))
    if case.shares:
        del calls
        apart = inputs.options(share=False, split=setting.split)
        calls = [inputs.call(copy, apart) for copy in inputs.copies]
        if not torch.equal(calls[0](), result):
            raise AssertionError("the result without sharing has other bits")
        found.unshared = time_calls(calls, setting.device, setting.budget_s)
    del calls
    for peer in case.peers:
        found.peers[peer] = _peer(peer, inputs, result, setting)
    _derive(found, inputs, ceilings, earlier)
    return found


def check(result: Tensor, inputs: Inputs, *, all_sequences: bool) -> float:
    """Compare with float64, some sequences or all; the largest difference.

    Raises:
        AssertionError: too large a difference.
    """
    count = len(inputs.lengths)
    order = sorted(range(count), key=lambda sequence: int(inputs.lengths[sequence]))
    chosen = order if all_sequences else sorted({order[0], order[count // 2], order[-1]})
    largest = 0.0
    for sequence in chosen:
        last = int(inputs.starts[sequence + 1])
        rows = inputs.case.new_tokens if all_sequences else min(inputs.case.new_tokens, CHECKED_ROWS)
        expected = inputs.reference(inputs.copies[0], sequence, rows)
        got = result[last - rows : last].double()
        assert_close(got, expected, RELATIVE[result.dtype])
        largest = max(largest, float((got - expected).abs().max()))
    return largest


def assert_close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    """No element is off by more than `tolerance` times the largest of all."""
    atol = tolerance * float(expected.abs().max())
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=atol)


def _peer(peer: str, inputs: Inputs, result: Tensor, setting: Setting) -> Timing | str:
    """A peer's timing, or why there is none."""
    try:
        calls: Sequence[Callable[[], Tensor]] = [
            peer_call(peer, inputs, copy) for copy in inputs.copies[: _peer_copies(inputs, setting)]
        ]
        theirs = in_our_order(calls[0](), inputs)
        assert_close(theirs, result, 4 * RELATIVE[result.dtype])
        return time_calls(calls, setting.device, setting.budget_s)
    except NotTakenError as reason:
        return str(reason)
    except Exception as error:  # a peer's failure is a finding; ours are raised
        return f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    finally:
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()


def _peer_copies(inputs: Inputs, setting: Setting) -> int:
    """As many as make up for L2, what is gathered being larger than what is shared."""
    if setting.device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(setting.device).L2_cache_size
    token = 2 * inputs.shape.kv_heads * inputs.shape.head_dim * setting.dtype.itemsize
    gathered = len(inputs.lengths) * int(inputs.lengths.max()) * token
    return min(len(inputs.copies), max(1, -(-4 * cache // gathered)))


def _derive(found: Found, inputs: Inputs, ceilings: Ceilings, earlier: dict[str, Found]) -> None:
    seconds, case = found.timing.median_s, found.case
    measures = found.measures
    bound = found.bytes_moved / ceilings.copy_bytes_per_s
    measures["copy_fraction"] = bound / seconds
    measures["over_bound"] = seconds / bound
    if found.unshared is not None:
        measures["over_unshared"] = found.unshared.median_s / seconds
    if case.base in earlier:
        measures["over_base"] = earlier[case.base].timing.median_s / seconds
    for name, timing in found.peers.items():
        if isinstance(timing, Timing):
            measures[f"over_{name}"] = timing.median_s / seconds
    if case.new_tokens > 1:
        pairs = sum(case.new_tokens * (2 * length - case.new_tokens + 1) // 2 for length in case.lengths)
        flops = 4 * pairs * inputs.shape.heads * inputs.shape.head_dim
        measures["matmul_fraction"] = flops / seconds / ceilings.matmul_flops
