"""What a probe and Prometheus see of a worker."""

import json
import urllib.error
import urllib.request
from typing import Any

from tests.bed.kafka import free_port


class Health:
    """The metrics port of one worker: give `settings` to it."""

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def settings(self) -> dict[str, str]:
        """What makes a worker serve here."""
        return {"AUDIT_METRICS_PORT": str(self.port)}

    @property
    def live(self) -> int:
        """The status of the liveness probe; 0 where nobody answers."""
        return self._get("/health/live")[0]

    @property
    def ready(self) -> bool:
        """Whether the readiness probe says so."""
        return self._get("/health/ready")[0] == 200

    @property
    def reasons(self) -> str:
        """Why not, in one line."""
        return "; ".join(self._get("/health/ready")[1].get("reasons", []))

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        return sum(self.series(name).values())

    def series(self, name: str) -> dict[str, float]:
        """The values of a metric by its labels, as they are written."""
        found = {}
        for line in self.text("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == f"integration_audit_{name}":
                found[series.partition("{")[2].rstrip("}")] = float(value)
        return found

    def text(self, path: str) -> str:
        """An answer's body."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            body: str = answer.read().decode()
            return body

    def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            return 200, json.loads(self.text(path))
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, {}
