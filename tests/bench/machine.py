"""What numbers are worth nothing without: the machine, the versions, the command."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka
import psycopg

from tests.bed.kafka import jars


def description(server: str) -> dict[str, Any]:
    """The machine and the versions; `server` is a URL of the PostgreSQL in use."""
    with psycopg.connect(server) as connection:
        settings = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes',"
            " 'wal_sync_method', 'shared_buffers', 'max_wal_size', 'track_commit_timestamp', 'wal_level') ORDER BY name"
        ).fetchall()
        postgres = connection.info.server_version
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "kernel": platform.platform(),
        "load_at_start": os.getloadavg(),
        "python": platform.python_version(),
        "reference_loop_ms": reference_loop(),
        "librdkafka": confluent_kafka.libversion()[0],
        "confluent_kafka": confluent_kafka.version() if callable(confluent_kafka.version) else version("confluent-kafka"),
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "postgresql": f"{postgres // 10_000}.{postgres % 10_000}",
        "postgresql_settings": dict(settings),
        "kafka": _kafka(),
        "revision": _revision(),
        "command": f"{Path(sys.executable).name} -m tests.bench {' '.join(sys.argv[1:])}".strip(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def reference_loop() -> float:
    """Milliseconds that a plain loop takes: tells an optimised interpreter from one that is not, which no build setting does surely."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        total = 0
        for number in range(1_000_000):
            total += number * 3 % 7
        best = min(best, time.perf_counter() - began)
    return best * 1000


def _kafka() -> str:
    found = sorted(jars().glob("kafka_2.13-*.jar"))
    return found[-1].stem.partition("-")[2] if found else "unknown"


def _revision() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()

    # What a run writes itself does not count.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/consumer", ":/tests", ":/schemas")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" and changes" if changed else "")
