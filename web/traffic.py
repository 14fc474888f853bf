"""How many messages go in and out: counted as plain numbers, since each message pays for it."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Traffic(Collector):
    """Messages of all WebSockets of this process. Counted on the event loop only."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What `/metrics` shows."""
        metric = CounterMetricFamily(
            "lorewire_messages", "Messages on WebSockets", labels=["direction"]
        )
        metric.add_metric(["received"], self.received)
        metric.add_metric(["sent"], self.sent)
        yield metric


TRAFFIC = Traffic()
REGISTRY.register(TRAFFIC)
