"""Results → docs/performance.md and its plots: `python -m tests.bench.report bench.json soak.json`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"

Data = Any
"""What a part of the benchmark left in the JSON."""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; numbers to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def short(number: float | None) -> str:
    """A number with as many digits as mean something; a dash for none."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.1f}"


def percent(share: float) -> str:
    """A share of one."""
    return f"{share * 100:.0f} %"


def _about(about: Data) -> str:
    settings = ", ".join(f"`{name} = {value}`" for name, value in about["postgresql_settings"].items())
    rows = [
        ("machine", f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, {about['kernel']}"),
        ("load of the machine, at the start and at the end", f"{about['load_at_start'][0]:.1f}, {about['load_at_end'][0]:.1f}"),
        ("Python", f"{about['python']}; the reference loop takes {about['reference_loop_ms']:.0f} ms"),
        ("clients", f"librdkafka {about['librdkafka']}, confluent-kafka {about['confluent_kafka']}, psycopg {about['psycopg']}"),
        ("Apache Kafka", f"{about['kafka']}, one node, on the same machine"),
        ("PostgreSQL", f"{about['postgresql']}, on the same machine; {settings}"),
        ("revision", about["revision"]),
        ("command", f"`{about['command']}`"),
    ]
    return table(["", ""], rows).replace("---:", "---")


_DRAIN = ["events/s", "COPY limit, rows/s", "ratio", "of each pair", "CPU µs an event", "peak MB"]


def _drain_row(data: Data) -> list[str]:
    return [
        short(data["events_per_s"]),
        short(data["limit_rows_per_s"]),
        f"{data['ratio']:.2f}",
        f"{min(data['ratios']):.2f} to {max(data['ratios']):.2f}",
        short(data["cpu_us_per_event"]),
        short(data["peak_mb"]),
    ]


def _drain(data: Data) -> str:
    walls = sorted(each["wall_s"] for each in data["drains"])
    return table(["", *_DRAIN], [["one worker", *_drain_row(data)]]) + (
        f"\n\nStart, join of the group and stop included, {data['drains'][0]['events']:,} events take {walls[len(walls) // 2]:.1f} s."
    )


def _split(data: Data) -> str:
    rows = [[name, short(micros)] for name, micros in data["us_per_event"].items()]
    return table(["step", "CPU µs an event"], [*rows, ["the whole process", short(data["process_us_per_event"])]])


def _variants(head: str) -> Callable[[Data], str]:
    def make(data: Data) -> str:
        rows = [[name, *_drain_row(each), percent(each["of_first"])] for name, each in data.items()]
        return table([head, *_DRAIN, f"of “{next(iter(data))}”"], rows)

    return make


def _memory(data: Data) -> str:
    large = data["large messages"]
    rows = [[f"partitions: {number}", short(each["peak_mb"])] for number, each in data["partitions"].items()]
    rows.append([f"a backlog of {large['messages']} messages of {large['bytes']:,} bytes", short(large["peak_mb"])])
    return table(["", "peak MB"], rows)


_LATENCY = ["linger ms", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU of one core", "peak MB"]


def _latency_row(point: Data) -> list[str]:
    rate = f"{point['rate']:,}" + ("" if point["sustained"] else " (not sustained)")
    figures = [short(point[name]) for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
    return [rate, f"{point['linger_ms']:g}", *figures, percent(point["cpu_share"]), short(point["peak_mb"])]


def _latency(data: Data) -> str:
    return table(["events/s", *_LATENCY], [_latency_row(point) for point in data])


def _recovery(data: Data) -> str:
    seconds = short(data["recovery_s"])
    return table(
        ["outage s", "events/s", "first commit after s", "lag gone after s", "peak MB"],
        [[short(data["outage_s"]), f"{data['rate']:,}", short(data["first_commit_s"]), seconds, short(data["peak_mb"])]],
    )


def _history(data: Data) -> str:
    drains = [[f"{each['rows']:,}", *_drain_row(each["drain"]), f"{each['scattered_ids']['ratio']:.2f}"] for each in data]
    points = [[f"{each['rows']:,}", *_latency_row(point)] for each in data for point in each["latency"]]
    return (
        table(["rows stored before", *_DRAIN, "ratio, ids without order"], drains)
        + "\n\n"
        + table(["rows stored before", "events/s", *_LATENCY], points)
    )


def _soak(data: Data) -> str:
    return table(
        ["minutes", "events/s", "peak MB", "MB an hour, second half"],
        [[f"{data['minutes']:g}", f"{data['rate']:,}", short(data["peak_mb"]), f"{data['mb_per_hour']:+.2f}"]],
    )


TABLES: Mapping[str, Callable[[Data], str]] = {
    "about": _about,
    "drain": _drain,
    "split": _split,
    "inputs": _variants("input"),
    "batches": _variants("batch"),
    "workers": _variants("workers"),
    "memory": _memory,
    "latency": _latency,
    "recovery": _recovery,
    "history": _history,
    "soak": _soak,
}


PLOTS = {
    "inputs": "throughput",
    "split": "split",
    "batches": "batches",
    "latency": "latency",
    "history": "history",
    "recovery": "recovery",
    "soak": "soak",
}
"""The parts that are drawn, and the name of each file."""


def shown(name: str, data: Data) -> str:
    """A part's table, and below it its plot."""
    plot = f"\n\n![{PLOTS[name]}](performance/{PLOTS[name]}.svg)" if name in PLOTS else ""
    return TABLES[name](data) + plot


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The document with the tables between their marks `<!-- name -->` and `<!-- /name -->`; the rest stays as it is.

    Raises:
        ValueError: the document has no place for a table.
    """
    for name, made in tables.items():
        opening, closing = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        begin, end = text.find(opening), text.find(closing)
        if begin < 0 or end < begin:
            raise ValueError(f"docs/performance.md has no place for the table {name}: {opening.strip()} and {closing.strip()}")
        text = text[: begin + len(opening)] + made + text[end:]
    return text


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--document", default=DOCUMENT, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(*, files: Sequence[Path], document: Path) -> None:
    """Puts the tables into docs/performance.md and the plots beside it. The machine is that of the first file."""
    from tests.bench.plots import draw  # noqa: PLC0415 - matplotlib is there for `make bench` only

    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    parts = {name: data for result in reversed(results) for name, data in result["parts"].items()}
    tables = {"about": _about(results[0]["about"]), **{name: shown(name, data) for name, data in parts.items()}}
    document.write_text(filled(document.read_text(encoding="utf-8"), tables), encoding="utf-8")
    drawn = draw({name: data for name, data in parts.items() if name in PLOTS}, document.with_suffix(""))
    click.echo(f"{document}: {', '.join(tables)}; plots: {', '.join(drawn) or 'none'}")


if __name__ == "__main__":
    main()
