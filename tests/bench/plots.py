"""The plots of docs/performance.md, each as PNG and SVG."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.bench.report import PLOTS

mpl.rcParams.update({
    "svg.hashsalt": "integration-audit",  # the same numbers make the same file
    "figure.figsize": (8, 4.5),
    "figure.constrained_layout.use": True,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
})  # fmt: skip

_LIMIT, _OURS = "#b8c0cc", "#1f6f8b"
_PERCENTILES = (("p50_ms", "p50", "#1f6f8b"), ("p99_ms", "p99", "#d98324"), ("p999_ms", "p99.9", "#b3363c"), ("max_ms", "max", "#888888"))


def _throughput(axes: Axes, data: Any) -> None:
    names = list(data)
    places = range(len(names))
    axes.bar([at - 0.2 for at in places], [data[name]["limit_rows_per_s"] for name in names], 0.4, label="COPY limit", color=_LIMIT)
    bars = axes.bar([at + 0.2 for at in places], [data[name]["events_per_s"] for name in names], 0.4, label="drain", color=_OURS)
    axes.bar_label(bars, [f"{data[name]['ratio']:.2f}" for name in names])
    axes.set(
        xticks=list(places),
        ylabel="events a second",
        title="Drain beside the COPY limit (medians); above the bars the median ratio of the pairs",
    )
    axes.set_xticklabels([name.replace("1 in 10,000 ", "1 in 10,000\n") for name in names])
    axes.grid(visible=False, axis="x")
    axes.legend()


def _batches(axes: Axes, data: Any) -> None:
    sizes = [int(name) for name in data]
    axes.plot(sizes, [each["events_per_s"] for each in data.values()], "o-", color=_OURS, label="events a second")
    axes.set(xscale="log", ylim=(0, None), xlabel="most messages in a batch", ylabel="events a second", title="Batch size: rate and memory")
    memory = axes.twinx()
    memory.plot(sizes, [each["peak_mb"] for each in data.values()], "s--", color="#d98324", label="peak MB")
    memory.set(ylim=(0, None), ylabel="peak resident MB")
    memory.grid(visible=False)
    axes.figure.legend(loc="outside lower center", ncols=2)


def _split(axes: Axes, data: Any) -> None:
    names = list(data["us_per_event"])
    bars = axes.barh(names, [data["us_per_event"][name] for name in names], color=_OURS)
    axes.bar_label(bars, fmt="%.1f")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="CPU µs an event", title="Where the CPU time of an event goes")


def _latency(axes: Axes, data: Any) -> None:
    for key, label, colour in _PERCENTILES:
        points = [(point["rate"], point[key]) for point in data if point[key] is not None and point["sustained"]]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="events a second", ylabel="ms from produce() to commit", title="Latency by rate")
    axes.legend()


def _history(axes: Axes, data: Any) -> None:
    rows = [each["stored"] for each in data]
    axes.plot(rows, [each["drain"]["limit_rows_per_s"] for each in data], "^:", color="#888888", label="COPY limit")
    for key, label, style in (("drain", "ids in order of time", "o-"), ("scattered_ids", "ids without order", "s--")):
        axes.plot(rows, [each[key]["events_per_s"] for each in data], style, label=f"drain, {label}")
    axes.set(
        xscale="log", ylim=(0, None), xlabel="events in the ledger before", ylabel="events a second", title="The rate as the log grows"
    )
    axes.legend()


def _recovery(axes: Axes, data: Any) -> None:
    axes.plot(*zip(*data["lag"], strict=True), color=_OURS, label="events sent and not yet visible")
    axes.axvspan(data["down_at_s"], data["back_at_s"], color="#b3363c", alpha=0.12, label="database down")
    axes.set(ylim=(0, None), xlabel="seconds", ylabel="events", title="An outage of the database")
    memory = axes.twinx()
    memory.plot(*zip(*data["memory_mb"], strict=True), "--", color="#d98324", label="resident MB")
    memory.set(ylim=(0, None), ylabel="resident MB")
    memory.grid(visible=False)
    axes.figure.legend(loc="outside lower center", ncols=3)


def _soak(axes: Axes, data: Any) -> None:
    axes.plot([at / 60 for at, *_ in data["points"]], [megabytes for _, megabytes, _ in data["points"]], color=_OURS)
    highest = max(megabytes for _, megabytes, _ in data["points"])
    axes.set(
        ylim=(0, 1.1 * highest), xlabel="minutes", ylabel="resident MB", title=f"Memory of one worker at {data['rate']:,} events a second"
    )


_DRAWN: dict[str, Callable[[Axes, Any], None]] = {
    "inputs": _throughput,
    "split": _split,
    "batches": _batches,
    "latency": _latency,
    "history": _history,
    "recovery": _recovery,
    "soak": _soak,
}


def draw(parts: Mapping[str, Any], folder: Path) -> list[str]:
    """Draws what was measured; the plots' names."""
    folder.mkdir(exist_ok=True)
    for part, data in parts.items():
        figure, axes = plt.subplots()
        _DRAWN[part](axes, data)
        figure.savefig(folder / f"{PLOTS[part]}.png", dpi=120)
        figure.savefig(folder / f"{PLOTS[part]}.svg", metadata={"Date": None})
        plt.close(figure)
    return [PLOTS[part] for part in parts]
