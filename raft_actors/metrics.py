"""What the peers of this process are doing, for Prometheus (extra ``metrics``).

Rule: a scrape only looks at values that are published anyway. It sends no message to an actor, takes no lock that a
peer holds while it works, and never waits: of a peer whose disk or machine hangs it tells that it hangs.

::

    import prometheus_client
    from raft_actors.metrics import PeerCollector

    prometheus_client.REGISTRY.register(PeerCollector())
    prometheus_client.start_http_server(9100, "127.0.0.1")

``docs/metrics.md`` lists every metric with what it means and when to be alarmed.
"""

from __future__ import annotations

import time
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from raft_actors import names
from raft_actors.errors import MissingExtra
from raft_actors.measures import BOUNDS, Histogram
from raft_actors.network import NETWORK
from raft_actors.supervisor import Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from raft_actors.protocol.state import PeerState
    from raft_actors.values import Status

__all__ = ["PeerCollector", "collector"]

ROLES = ("follower", "pre_candidate", "candidate", "leader")


class _View(NamedTuple):
    """One peer at one moment."""

    handle: Handle
    status: Status
    state: PeerState | None


class _Metric(NamedTuple):
    """One metric of every peer: ``read`` gives its values, each with the labels after ``peer``."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[_View], Iterable[tuple[tuple[str, ...], float | Histogram]]]


Values = list[tuple[tuple[str, ...], float]]


def _up(view: _View) -> float:
    return view.handle.running


def _roles(view: _View) -> Values:
    role = view.status.role if view.handle.running else ""
    return [((one,), one == role) for one in ROLES]


def _lags(view: _View) -> Values:
    return [((name.partition("@")[0],), one.lag) for name, one in view.status.progress.items()]


def _sync_running(view: _View) -> float:
    since = view.handle.measures.sync_since
    return max(time.perf_counter() - since, 0.0) if since else 0.0


def _pending(view: _View) -> float:
    mailbox = view.handle.mailbox
    return 0 if mailbox is None else mailbox.pending


def _pending_bytes(view: _View) -> float:
    mailbox = view.handle.mailbox
    return 0 if mailbox is None else mailbox.pending_bytes


def _overloaded(view: _View) -> float:
    mailbox = view.handle.mailbox
    return 0 if mailbox is None else mailbox.overloaded


def _snapshot_size(view: _View) -> float:
    snapshot = None if view.state is None else view.state.snapshot
    return 0 if snapshot is None else snapshot.size


def _refused(view: _View) -> Values:
    return _by_reason(view.handle.refused_messages)


def _by_reason(counts: dict[str, int]) -> Values:
    return [((reason,), count) for reason, count in dict(counts).items()]  # a copy at once: others count on


def _one(name: str, kind: str, text: str, read: Callable[[_View], float | Histogram]) -> _Metric:
    return _Metric(name, kind, text, (), lambda view: [((), read(view))])


PEER_METRICS = (
    _one("peer_up", "gauge", "1 while the peer runs, 0 while it restarts or after it failed.", _up),
    _Metric("role", "gauge", "1 for the role that the peer has, 0 for the others.", ("role",), _roles),
    _one("term", "gauge", "Current term.", lambda view: view.status.term),
    _one("leader_known", "gauge", "1 while the peer knows a leader.", lambda view: view.status.leader is not None),
    _one("commit_index", "gauge", "Up to where the log is known to be committed.", lambda v: v.status.commit_index),
    _one("applied_index", "gauge", "Up to where the machine has applied the log.", lambda v: v.status.last_applied),
    _one("last_index", "gauge", "Where the log ends.", lambda view: view.status.last_index),
    _Metric("follower_lag_entries", "gauge", "Entries that a follower is behind its leader.", ("follower",), _lags),
    _one(
        "sync_seconds",
        "histogram",
        "Time until a transaction of the log is durable.",
        lambda v: v.handle.measures.syncs,
    ),
    _one("sync_running_seconds", "gauge", "For how long the transaction under way has been running.", _sync_running),
    _one("commit_seconds", "histogram", "Time from append to commit of a batch.", lambda v: v.handle.measures.commits),
    _one("mailbox_requests", "gauge", "Unfinished requests of callers.", _pending),
    _one("mailbox_bytes", "gauge", "Bytes of the unfinished requests.", _pending_bytes),
    _one("overloaded", "counter", "Requests turned away because the mailbox was full.", _overloaded),
    _one("elections_started", "counter", "Elections it stood in.", lambda view: view.handle.measures.elections_started),
    _one("elections_won", "counter", "Elections it won.", lambda view: view.handle.measures.elections_won),
    _one("failures", "counter", "How often the peer stopped itself.", lambda view: view.handle.measures.failures),
    _Metric("refused_messages", "counter", "Messages of other peers that were refused.", ("reason",), _refused),
    _one("snapshot_index", "gauge", "What the newest snapshot covers.", lambda view: view.status.snapshot_index),
    _one("snapshot_size_bytes", "gauge", "Size of the newest snapshot.", _snapshot_size),
)
NODE_REFUSED = ("node_refused", "Frames, keys and requests that the node of this process refused.")
PREFIX = "raft_actors_"


class PeerCollector:
    """A collector of every peer that this process has, and of its node; register it once.

    Peers are looked up at each scrape: those that start later are there, those that were stopped are not any more.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client.core as core
        except ImportError as error:
            raise MissingExtra("metrics") from error
        self._families: dict[str, Callable[..., Metric]] = {
            "gauge": core.GaugeMetricFamily,
            "counter": core.CounterMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }

    def describe(self) -> Iterator[Metric]:
        """Every metric without values, for the registry, which refuses a second one of the same name."""
        for metric in PEER_METRICS:
            yield self._peer_family(metric)
        yield self._node_family()

    def collect(self) -> Iterator[Metric]:
        """Every metric with the values that are published now."""
        views = list(_views())
        for metric in PEER_METRICS:
            family = self._peer_family(metric)
            for view in views:
                for labels, value in metric.read(view):
                    _add(family, [view.handle.name, *labels], value)
            yield family
        yield self._node()

    def _node(self) -> Metric:
        family, node = self._node_family(), NETWORK.node
        if node is not None:
            for labels, value in _by_reason(node.wire.refused):
                _add(family, [node.address, *labels], value)
        return family

    def _peer_family(self, metric: _Metric) -> Metric:
        return self._family(metric.kind, metric.name, metric.help, ("peer", *metric.labels))

    def _node_family(self) -> Metric:
        return self._family("counter", *NODE_REFUSED, ("node", "reason"))

    def _family(self, kind: str, name: str, text: str, labels: tuple[str, ...]) -> Metric:
        return self._families[kind](PREFIX + name, text, labels=labels)


def collector() -> PeerCollector:
    """A new ``PeerCollector``.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """
    return PeerCollector()


def _views() -> Iterator[_View]:
    for name in names.names():
        handle = names.whereis(name)
        if isinstance(handle, Handle):
            yield _View(handle, handle.status(), handle.state)


def _add(family: Any, labels: list[str], value: float | Histogram) -> None:
    if isinstance(value, Histogram):
        family.add_metric(labels, _buckets(value), value.sum)
    else:
        family.add_metric(labels, float(value))


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Bounds with how many times lie below each, as Prometheus wants them."""
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(list(histogram.counts)), strict=True))
