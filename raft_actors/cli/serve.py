"""``raft-actors serve ADDRESS``: one peer of a cluster in a process of its own, until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import raft_actors as raft
from raft_actors.addresses import check_address, place_of, split_address
from raft_actors.cli.common import UsageError, complain, load_machine, path_arg
from raft_actors.cli.connecting import add_keys, addresses_of, check_full
from raft_actors.errors import InvalidName
from raft_actors.metrics import PeerCollector
from raft_actors.supervisor import Handle, handle_of

if TYPE_CHECKING:
    from raft_actors.cli.log import Subparsers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command ``serve``."""
    parser = subparsers.add_parser(
        "serve",
        help="run one peer of a cluster, until SIGTERM",
        description="Run one peer until SIGTERM or Ctrl-C, which stop it gracefully: a leader hands over first. "
        "Started with the same --peers everywhere, in any order, the peers form exactly one cluster, once; after a "
        "restart what the store knows wins. Tells systemd (Type=notify) when it is ready.",
    )
    parser.add_argument("address", metavar="ADDRESS", help="this peer, as name@host:port")
    parser.add_argument("--machine", required=True, metavar="MODULE:CLASS", help="its StateMachine")
    parser.add_argument("--data-dir", required=True, type=path_arg, metavar="DIR", help="its store is DIR/NAME")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--peers", metavar="A,B,C", help="form a cluster of these, this one included")
    begin.add_argument("--join", metavar="A,B", help="ask these members to be let in")
    parser.add_argument("--storage", choices=("lmdb", "rocksdb", "memory"), default="lmdb", help="default: lmdb")
    parser.add_argument("--codec", choices=("cloudpickle", "plain"), help="default: cloudpickle; plain with --insecure")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", help="let Prometheus scrape it here; anybody may who gets there"
    )
    parser.add_argument(
        "--log", choices=("debug", "info", "warning", "error"), default="info", help="to standard error (default: info)"
    )
    add_keys(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: as above.

    Returns:
        The exit status: 0 stopped, 1 the peer has failed.
    """
    place = place_of(check_full(args.address, "ADDRESS"))
    machine = load_machine(args.machine)
    config = raft.Config(data_dir=args.data_dir, storage=args.storage, codec=_codec(args))
    beginning = _beginning(args)
    if args.keys is not None and not args.keys.is_dir():
        raise UsageError(f"--keys: there is no folder {args.keys}")
    logging.basicConfig(level=args.log.upper(), format="%(asctime)s %(levelname)s %(message)s")
    with (
        _until_a_signal() as bell,
        _scraped_at(args.metrics) if args.metrics is not None else nullcontext(),
        raft.start_node(place.address, keys=args.keys, insecure=args.insecure) as node,
    ):
        raft.start_peer(machine, name=place.name, config=config, **beginning)
        gc.freeze()  # what is there now stays: the collector need not look through it again and again
        print(f"{place.name}@{node.address} is ready", flush=True)
        _tell_systemd("READY=1")
        handle = handle_of(place.name)
        threading.Thread(target=_watch, args=(handle, bell), name="raft-watch", daemon=True).start()
        bell.wait()
        _tell_systemd("STOPPING=1")
        failure = handle.failure if handle.failed else None
    if failure is not None:
        complain(args, failure)
        return 1
    return 0


def _codec(args: argparse.Namespace) -> str:
    if args.keys is None and not args.insecure:
        raise UsageError("give --keys DIR (raft-actors keygen makes them), or --insecure on this machine alone")
    if args.insecure and args.codec not in (None, "plain"):
        raise UsageError("--insecure goes with --codec plain only: nothing of strangers is unpickled")
    return args.codec or ("plain" if args.insecure else "cloudpickle")


def _beginning(args: argparse.Namespace) -> dict[str, Any]:
    if args.peers is not None:
        peers = addresses_of(args.peers, "--peers")
        if args.address not in peers:
            raise UsageError(f"--peers must name {args.address} too: give all of them the same list")
        if len({place_of(peer).name for peer in peers}) < len(peers):
            raise UsageError("--peers has a name twice: each peer of a cluster has a name of its own")
        return {"join": peers, "bootstrap_expect": len(peers)}
    if args.join is not None:
        seeds = addresses_of(args.join, "--join")
        if {place_of(seed).name for seed in seeds} == {place_of(args.address).name}:
            raise UsageError("--join names this peer itself: give it a member of the cluster that it is to join")
        return {"join": seeds}
    return {}


@contextmanager
def _scraped_at(address: str) -> Iterator[None]:
    """Serve the metrics of this process, also while its peer starts and stops."""
    try:
        host, port = split_address(check_address(address))
    except InvalidName as error:
        raise UsageError(f"--metrics: {error}") from error
    collector = PeerCollector()
    import prometheus_client

    try:
        server, thread = prometheus_client.start_http_server(port, host)
    except OSError as error:
        raise raft.InvalidConfig(
            f"metrics cannot be served at {address}: {error}", advice="give --metrics another address or a free port"
        ) from error
    prometheus_client.REGISTRY.register(collector)
    print(f"metrics at http://{address.rpartition(':')[0]}:{server.server_port}/metrics", flush=True)
    try:
        yield
    finally:
        prometheus_client.REGISTRY.unregister(collector)
        server.shutdown()
        server.server_close()
        thread.join()


class _Bell:
    """Wakes the main thread, from a handler of a signal or from another thread.

    There is no lock in it, for a signal comes at any step, also between taking a lock and letting it go.
    """

    def __init__(self) -> None:
        self._hears, self._rings = socket.socketpair()
        self._rings.setblocking(False)

    def ring(self) -> None:
        """Wake it, once and for all."""
        with contextlib.suppress(OSError):  # it was rung often enough, or nobody listens any more
            self._rings.send(b"!")

    def wait(self) -> None:
        """Sleep until somebody rings."""
        self._hears.recv(1)

    def close(self) -> None:
        """Nobody listens any more."""
        self._hears.close()
        self._rings.close()


def _watch(handle: Handle, bell: _Bell) -> None:
    """Ring if the peer has failed for good."""
    with handle.changed:
        handle.changed.wait_for(lambda: handle.failed)
    bell.ring()


@contextmanager
def _until_a_signal() -> Iterator[_Bell]:
    """What SIGTERM and SIGINT ring; the second one ends the process as usual."""
    bell = _Bell()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        bell.ring()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield bell
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bell.close()


def _tell_systemd(what: str) -> None:
    """As ``sd_notify``; nothing happens where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or sys.platform == "win32":
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(what.encode(), "\0" + address[1:] if address.startswith("@") else address)
