"""Counters of a server, in the text form that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter

from discern.serve.queue import Batcher


class Metrics:
    """Requests by route and status, seconds by route."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.faults = 0

    def add(self, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        with self._lock:
            self.requests[route, status] += 1
            self.seconds[route] += seconds  # type: ignore[assignment]

    def fault(self) -> None:
        """A fault of the server itself."""
        with self._lock:
            self.faults += 1

    def text(self, queue: Batcher) -> str:
        """All of it."""
        with self._lock:
            lines = ["# TYPE discern_requests_total counter"]
            for (route, status), count in sorted(self.requests.items()):
                said = f'route="{route}",status="{status}"'
                lines.append(f"discern_requests_total{{{said}}} {count}")
            lines.append("# TYPE discern_request_seconds_total counter")
            for route, seconds in sorted(self.seconds.items()):
                lines.append(f'discern_request_seconds_total{{route="{route}"}} {seconds:.6f}')
            lines += ["# TYPE discern_faults_total counter", f"discern_faults_total {self.faults}"]
        lines += ["# TYPE discern_queue_waiting gauge", f"discern_queue_waiting {queue.waiting}"]
        lines += ["# TYPE discern_batches_total counter", f"discern_batches_total {queue.batches}"]
        lines += ["# TYPE discern_items_total counter", f"discern_items_total {queue.items}"]
        return "\n".join(lines) + "\n"
