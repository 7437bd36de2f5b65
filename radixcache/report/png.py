"""Hit-rate curves as a picture, with matplotlib, which is an optional dependency."""

from __future__ import annotations

from pathlib import Path

from radixcache.curve.results import CurveReport
from radixcache.extras import require_extra
from radixcache.files import writing_bytes
from radixcache.report.text import visible

__all__ = ["check_plotting", "write_png"]

_MOST = 10


def check_plotting() -> None:
    """Find out that matplotlib is missing before a long log is read.

    Raises:
        MissingExtraError: saying which extra to install.
    """
    require_extra("plot", "--png")


def write_png(report: CurveReport, path: Path) -> None:
    """Draw the curves by capacity in tokens, with knees and the clairvoyant bound, 1600 x 1000 pixels.

    Of more than ten curves those of the most prompt tokens are drawn. The file is whole or not there.

    Raises:
        ValueError: naming the path, if it cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.25), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    several = len(report.curves) > 1
    drawn = sorted(report.curves, key=lambda c: -c.prompt_tokens)[:_MOST]
    for curve in drawn:
        points = [
            p for p in report.points if (p.namespace, p.block_size) == (curve.namespace, curve.block_size)
        ]
        name = f"blocks of {curve.block_size:,}"
        if curve.namespace is not None:
            name = f"{visible(curve.namespace or '-', 30)}, {name}"
        tokens = [p.capacity_tokens for p in points]
        (line,) = axes.plot(tokens, [p.hit_rate for p in points], label=name if several else "LRU")
        if report.sample is not None:
            low = [max(0.0, p.hit_rate - 2 * p.standard_error) for p in points]
            high = [min(1.0, p.hit_rate + 2 * p.standard_error) for p in points]
            axes.fill_between(tokens, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        best = [
            (p.capacity_tokens, p.clairvoyant_hit_rate) for p in points if p.clairvoyant_hit_rate is not None
        ]
        if best:
            axes.plot(
                [x for x, _ in best],
                [y for _, y in best],
                linestyle=":",
                color=line.get_color(),
                label=None if several else "clairvoyant",
            )
        for p in points:
            if p.capacity_blocks == curve.knee_blocks:
                axes.plot([p.capacity_tokens], [p.hit_rate], "o", color=line.get_color())
    axes.set(xscale="log", xlabel="cache capacity in tokens", ylabel="hit rate", ylim=(0, None))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_title(", ".join(visible(Path(name).name, 40) for name in report.logs[:3]), parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    with writing_bytes(path) as file:
        figure.savefig(file, format="png")
