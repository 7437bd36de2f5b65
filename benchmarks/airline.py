"""A tool-using support agent's log: total time with the cache on against off.

300 model calls of the log, 8 sessions taking turns and as many requests in flight, 16 new tokens at most.
Also reports the control plane's share of the engine's working time and the share of room in used blocks that
holds no token. One process, one model; the run with the cache off comes first.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.common import Meter, arguments, model_label, set_threads, write_results
from radixcache.logs import read_logs
from radixcache.prompts.encode import PromptEncoder
from radixcache.replay.prepare import prepare
from radixcache.replay.replay import replay
from radixcache.replay.results import RunSummary
from radixcache.replay.settings import ReplaySettings
from radixcache.replay.target import load_target
from radixcache.sizes import GIB

_LOG = Path(__file__).parents[2] / "shared" / "data" / "airline_agent.jsonl.xz"


def main() -> None:
    """Measure, print and write."""
    parser = arguments("airline", __doc__)
    parser.add_argument("--log", type=Path, default=_LOG, help="a log of chat-completions requests")
    parser.add_argument("--limit", type=int, default=300, help="requests")
    parser.add_argument("--interleave", type=int, default=8, help="sessions that take turns")
    parser.add_argument("--concurrency", type=int, default=8, help="requests in flight")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--cache-gb", type=float, default=2.0, help="room for keys and values, in GiB")
    options = parser.parse_args()
    if not options.log.exists():
        raise SystemExit(f"{options.log}: no such log; name one with --log")
    set_threads(options.threads)
    settings = ReplaySettings(
        cache="compare",
        max_tokens=options.max_tokens,
        concurrency=options.concurrency,
        interleave=options.interleave,
    )
    target = load_target(
        options.model,
        dtype=options.dtype,
        cache_memory=round(options.cache_gb * GIB),
        concurrency=options.concurrency,
        notify=print,
    )
    encoder = PromptEncoder(target.tokenizer, options.model)
    requests = prepare(read_logs([str(options.log)], limit=options.limit), encoder, settings)
    print(f"{len(requests)} requests, {sum(len(r.tokens) for r in requests):,} prompt tokens")
    with Meter() as meter:
        report = replay(requests, target, settings, logs=[options.log.name], on_progress=_progress).report
    off, on = report.runs
    for run in (off, on):
        _print_run(run)
    answered = max(off.requests, on.requests)
    identical = answered - len(report.differing_requests)
    print(f"off / on: {off.wall_s / on.wall_s:.2f}x   identical outputs: {identical} of {answered} answered")
    print(f"refused, longer than the model's context: {report.requests - answered}")
    print(f"others: {meter.other_cpu_cores:.2f} cores")
    write_results(
        options.out,
        {
            "off_over_on": off.wall_s / on.wall_s,
            "answered": answered,
            "identical_outputs": identical,
            "threads": options.threads,
            "other_cpu_cores": meter.other_cpu_cores,
            "replay": {**asdict(report), "model": model_label(report.model)},
        },
    )


def _progress(run: str, done: int, total: int) -> None:
    if done % 25 == 0 or done == total:
        print(f"  cache {run}: {done} of {total}", flush=True)


def _print_run(run: RunSummary) -> None:
    print(
        f"cache {run.cache:3} {run.wall_s:8.1f} s   hit rate {100 * run.hit_rate:5.1f} %   "
        f"prefill {run.prefill_tokens:,} tokens   ttft p50 {run.ttft_s.p50 or 0:.3f} s   "
        f"control plane {100 * run.control_share:.2f} %   block waste {100 * run.block_waste:.2f} %"
    )


if __name__ == "__main__":
    main()
