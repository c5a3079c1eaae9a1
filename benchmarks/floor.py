"""What does this machine take for a write and a read that cross three processes, whoever does it? Ours are beside it.

    python -m benchmarks.floor [--dir DIR] [--rounds 9]

The floor is four bare processes with keys: the caller asks the first node, which passes the entry to both others,
commits it to an LMDB of its own, and answers as soon as one of them says that it has, too; for a read it asks one of
them for a word. No terms, no elections, no checks, no queues: one thread each, and nothing that makes it Raft. Who is
faster than that does without ZeroMQ, without LMDB, without the disk, or without Python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import zmq

import raft_actors as raft
from raft_actors.bench.process_rig import ProcessRig, WireProbe
from raft_actors.bench.rig import PAYLOAD
from storage_adapters import Batch, LMDBAdapter

ROUNDS, EACH = 9, 100
READ = b"read"


class Entry(msgspec.Struct, array_like=True):
    """What the nodes say to each other; index 0: nothing is to be stored."""

    index: int
    data: bytes = b""


encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Entry).decode


# -- the nodes ---------------------------------------------------------------------------------------------------------


def node(folder: str, others: list[str]) -> None:
    """Be one of them, until killed; the keys come by standard input, our port leaves by standard output."""
    public, secret = sys.stdin.readline().encode().split()
    context: Any = zmq.Context()
    door = context.socket(zmq.ROUTER)
    door.curve_server, door.curve_publickey, door.curve_secretkey = True, public, secret
    print(door.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    store = LMDBAdapter(folder)
    if others:
        lead(door, store, [calling(context, public, port) for port in others])
    else:
        follow(door, store)


def follow(door: Any, store: LMDBAdapter) -> None:
    while True:
        route, frame = door.recv_multipart()
        entry = decode(frame)
        if entry.index:
            store.write(Batch(entries=[(entry.index, entry.data)]))
        door.send_multipart([route, encode(Entry(entry.index))])


def lead(door: Any, store: LMDBAdapter, others: list[Any]) -> None:
    poller, last = zmq.Poller(), 0
    for other in others:
        poller.register(other, zmq.POLLIN)
    while True:
        route, data = door.recv_multipart()
        if data == READ:
            others[0].send(encode(Entry(0)))
            others[0].recv()
        else:
            last += 1
            for other in others:
                other.send(encode(Entry(last, data)))
            store.write(Batch(entries=[(last, data)]))
            while last not in [decode(other.recv()).index for other, _ in poller.poll()]:
                pass
        door.send_multipart([route, data])


def calling(context: Any, server: bytes, port: str) -> Any:
    socket = context.socket(zmq.DEALER)
    socket.curve_serverkey = server
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


# -- the caller --------------------------------------------------------------------------------------------------------


@contextmanager
def bare(folder: Path) -> Iterator[Callable[[bytes], None]]:
    """Three nodes; gives what asks them."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    processes: list[subprocess.Popen[str]] = []

    def start(name: str, *others: str) -> str:
        command = [sys.executable, "-m", "benchmarks.floor", "--node", str(folder / name), *others]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{public} {secret}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    context: Any = zmq.Context()
    try:
        socket = calling(context, public.encode(), start("first", start("second"), start("third")))

        def ask(data: bytes) -> None:
            socket.send(data)
            socket.recv()

        yield ask
    finally:
        context.destroy(0)
        for process in processes:
            process.kill()
            process.communicate()


def timed(action: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(EACH):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return times


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """The median of each in microseconds; they take turns."""
    with ExitStack() as stack:
        ask = stack.enter_context(bare(folder / "bare"))
        wire = stack.enter_context(WireProbe())
        rig = stack.enter_context(ProcessRig(folder, "lmdb"))
        leader = rig.leader()
        file = os.open(folder / "yardstick", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        actions: dict[str, Callable[[], object]] = {
            "disk": lambda: (os.write(file, PAYLOAD), os.fdatasync(file)),
            "zmq": wire._ask,
            "bare write": lambda: ask(PAYLOAD),
            "bare read": lambda: ask(READ),
            "our write": lambda: raft.write(leader, PAYLOAD),
            "our read": lambda: raft.read(leader, b""),
        }
        times: dict[str, list[float]] = {what: [] for what in actions}
        for _ in range(rounds):
            for what, action in actions.items():
                times[what] += timed(action)
        os.close(file)
    return {what: 1e6 * median(several) for what, several in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="the least that this machine takes, and ours beside it")
    parser.add_argument("--dir", help="where the stores are made")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--node", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.node:
        node(args.node[0], args.node[1:])
        return
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        found = measure(Path(folder), args.rounds)
    disk, wire = found["disk"], found["zmq"]
    print(f"disk {disk:.0f} us, round trip by ZeroMQ with keys {wire:.0f} us")
    for what, unit, of in (("write", disk, "disk"), ("read", wire, "round trip")):
        floor, ours = found[f"bare {what}"], found[f"our {what}"]
        print(f"{what:5}  bare {floor:5.0f} us = {floor / unit:4.1f} x {of}", end="")
        print(f"   ours {ours:5.0f} us = {ours / unit:4.1f} x {of} = {ours / floor:.1f} x bare")


if __name__ == "__main__":
    main()
