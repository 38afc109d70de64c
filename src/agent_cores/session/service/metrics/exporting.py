"""``Exporter``: hands what was recorded to prometheus-client, and the listener that serves it.

With several workers each writes into files of one folder, and the supervisor's listener sums them:
prometheus-client's multiprocess mode.
"""

from __future__ import annotations

import asyncio
import os
import re
from bisect import bisect_right
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import ConfigurationError, MissingDependencyError
from agent_cores.session.service.metrics.definitions import METRICS, Metric
from agent_cores.session.service.metrics.listening import listening

try:
    import prometheus_client
    from prometheus_client import multiprocess
    from prometheus_client.registry import Collector
except ImportError as _error:
    raise MissingDependencyError("prometheus-client", "metrics") from _error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric as Family

    from agent_cores.session.service.metrics.recorder import Labels, Series, Taken

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder of a service with several workers."""
_LIVE = re.compile(r"gauge_live[a-z]+_(\d+)\.db")


class Exporter:
    """The metrics of this process, as prometheus-client keeps them."""

    def __init__(
        self, registry: prometheus_client.CollectorRegistry, wanted: Sequence[Metric] = METRICS
    ) -> None:
        self._made = {metric.name: _made(metric, registry) for metric in wanted}
        self._labels = {metric.name: len(metric.labels) for metric in wanted}

    async def add(self, taken: Taken) -> None:
        """Add what was recorded to the values that Prometheus reads."""
        for (name, labels), values in taken.values.items():
            _add(self._labelled(name, labels), values)
            await asyncio.sleep(0)  # let requests run in between
        for (name, labels), count in taken.counts.items():
            self._labelled(name, labels).inc(count)
        gauges: defaultdict[Series, float] = defaultdict(float)
        for (name, labels), value in taken.gauges.items():
            gauges[name, self._shown(name, labels)] += value
        for (name, labels), value in gauges.items():
            self._labelled(name, labels).set(value)

    def close(self) -> None:
        """Do nothing: the gauges of a process end with it."""

    def _labelled(self, name: str, labels: tuple[str, ...]) -> Any:  # noqa: ANN401 - of three kinds
        made, shown = self._made[name], self._shown(name, labels)
        return made.labels(*shown) if shown else made

    def _shown(self, name: str, labels: Labels) -> Labels:
        """Return the values that are labels: the first ones."""
        return labels[: self._labels[name]]


def new_exporter() -> Exporter:
    """Return the metrics of a worker, which writes into the folder of all."""
    return Exporter(prometheus_client.CollectorRegistry())


def _made(metric: Metric, registry: prometheus_client.CollectorRegistry) -> Any:  # noqa: ANN401 - as above
    given: dict[str, Any] = {"labelnames": metric.labels, "registry": registry}
    if metric.kind == "histogram":
        return prometheus_client.Histogram(
            metric.name, metric.text, buckets=metric.buckets, **given
        )
    if metric.kind == "counter":
        return prometheus_client.Counter(metric.name, metric.text, **given)
    return prometheus_client.Gauge(
        metric.name, metric.text, multiprocess_mode=metric.combined, **given
    )


def _add(histogram: Any, values: list[float]) -> None:  # noqa: ANN401 - untyped inside
    """Add many values together, which the interface of a histogram does not offer.

    Sorted once, they are counted by a search for each bound instead of one for each value.
    """
    ordered = sorted(values)
    counted = 0
    for bound, bucket in zip(histogram._upper_bounds, histogram._buckets, strict=True):  # noqa: SLF001
        below = bisect_right(ordered, bound)
        if below > counted:
            bucket.inc(below - counted)
        counted = below
    histogram._sum.inc(sum(values))  # noqa: SLF001


class _OfWorkers(Collector):
    """Collects what all workers wrote. The gauges of a worker end with it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._collector = multiprocess.MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Family]:
        """Return the sums, as prometheus-client asks for them."""
        for file in os.listdir(self._folder):  # noqa: PTH208 - names are all that is needed
            match = _LIVE.fullmatch(file)
            if match is not None and not _runs(int(match[1])):
                with suppress(FileNotFoundError):  # another scrape was faster
                    multiprocess.mark_process_dead(int(match[1]), self._folder)  # type: ignore[no-untyped-call]
        found: Iterable[Family] = self._collector.collect()  # type: ignore[no-untyped-call]
        return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def folder_of_workers() -> Iterator[str]:
    """Name a new folder in the environment, for workers that are started in the block."""
    folder = mkdtemp(prefix="agent-sessions-metrics-")
    os.environ[FOLDER] = folder
    try:
        yield folder
    finally:
        os.environ.pop(FOLDER, None)
        rmtree(folder, ignore_errors=True)


@contextmanager
def listener(host: str, port: int, folder: str | None) -> Iterator[Exporter | None]:
    """Serve the metrics of this process or, with a folder, of the workers that write into it.

    Yields the exporter of this process; ``None`` with a folder, since this process has none.
    """
    registry = prometheus_client.CollectorRegistry()
    exporter = None
    if folder is None:
        exporter = Exporter(registry)
    else:
        registry.register(_OfWorkers(folder))
    with ExitStack() as stack:
        try:
            stack.enter_context(listening(host, port, prometheus_client.make_wsgi_app(registry)))
        except OSError as error:
            detail = f"SESSION_SERVICE_METRICS_PORT: cannot listen on {host}, port {port}: {error}"
            raise ConfigurationError(detail) from error
        yield exporter
