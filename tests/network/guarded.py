"""A node in a process of its own that tells what it refused, and strangers that come to it by hand.

``python -m tests.network.guarded [KEYS]`` is the node: one peer ``s1`` that is a cluster by itself. It prints where it
listens, and answers each line on its input with what it has seen so far.
"""

from __future__ import annotations

import collections
import json
import resource
import sys
import time
from pathlib import Path

import zmq

import raft_actors as raft
from raft_actors.codec import resolve
from raft_actors.keys import keygen
from raft_actors.machines import KV
from raft_actors.network import NETWORK
from raft_actors.transport.frames import (
    Answer,
    Answers,
    Ask,
    Failed,
    Hello,
    Query,
    Submit,
    Welcome,
    pack,
    unpack,
)
from tests.processes.tools import PYTHON, eventually, start

PLAIN = resolve("plain")
PATIENCE = 10.0
FILES = 512
"""Files that the node may have open: half of them are for connections."""


def main() -> None:
    """The node."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    keys = sys.argv[1] if len(sys.argv) > 1 else None
    given = sys.argv[2] if len(sys.argv) > 2 else "cloudpickle"
    with raft.start_node("127.0.0.1:0", keys=keys, insecure=keys is None) as node:
        codec = "plain" if keys is None else given
        raft.start_peer(KV, name="s1", config=raft.Config(storage="memory", codec=codec))
        raft.set_configuration("s1", [f"s1@{node.address}"])
        print(json.dumps({"address": node.address}), flush=True)
        for _ in sys.stdin:
            seen = {"refused": node.refused, "rss": rss(), "peak": peak(), **log_of("s1")}
            print(json.dumps(seen), flush=True)


def log_of(name: str) -> dict:
    """In which cluster and term a peer is, and where its log ends."""
    state = NETWORK.node._books[name][1]()
    return {"cluster": state.cluster, "term": state.term, "last": [state.log.last.term, state.log.last.index]}


def rss() -> int:
    """Bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak() -> int:
    """The most that it ever had; what ``getrusage`` tells is also that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


class Guarded:
    """Such a node, as the tests see it."""

    def __init__(self, folder: Path, *, keyed: bool = True, codec: str = "cloudpickle") -> None:
        self.folder = folder
        self.keys = folder / "node-keys" if keyed else None
        self.server_key = ""
        self._made = 0
        if self.keys is not None:
            keygen(self.keys)
            self.server_key = (self.keys / "public.key").read_text().strip()
        words = [PYTHON, "-m", "tests.network.guarded", *([self.keys, codec] if keyed else [])]
        self.program = start(words, folder, stderr=(folder / "complaints").open("wb"), text=True)
        self.address = json.loads(self.program.stdout.readline())["address"]

    def seen(self) -> dict:
        """What it has seen so far."""
        self.program.stdin.write("?\n")
        self.program.stdin.flush()
        return json.loads(self.program.stdout.readline())

    def refused(self, why: str) -> int:
        """How often something was refused for this reason."""
        return self.seen()["refused"].get(why, 0)

    def new_keys(self) -> Path:
        """Keys that nobody knows."""
        self._made += 1
        folder = self.folder / f"guest-{self._made}"
        keygen(folder, "reader")
        return folder

    def let_in(self, role: str, name: str = "guest", keys: Path | None = None) -> Path:
        """Put keys on the list; new ones if none are given."""
        keys = keys or self.new_keys()
        public = (keys / "public.key").read_text().strip()
        with (self.keys / "allowed").open("a") as file:
            file.write(f"{role} {public} {name}\n")
        return keys

    def throw_out(self, keys: Path) -> None:
        """Take keys off the list."""
        public = (keys / "public.key").read_text().strip()
        path = self.keys / "allowed"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if public not in line))

    def complaints(self) -> str:
        """What it wrote to its log."""
        return (self.folder / "complaints").read_text()

    def close(self) -> None:
        """End it, gracefully; it has not complained of an error of its own."""
        self.program.stdin.close()
        assert self.program.wait(30) == 0, self.complaints()
        self.program.stdout.close()
        assert "Traceback" not in self.complaints()


class Stranger:
    """A connection made by hand."""

    def __init__(self, node: Guarded, keys: Path | None = None, server_key: str = "") -> None:
        self.context = zmq.Context.instance()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.number = 0
        self.heard: collections.deque[object] = collections.deque()
        if keys is not None:
            self.socket.curve_serverkey = (server_key or node.server_key).encode()
            self.socket.curve_publickey = (keys / "public.key").read_text().strip().encode()
            self.socket.curve_secretkey = (keys / "secret.key").read_text().strip().encode()
        self.socket.connect(f"tcp://{node.address}")

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(0)

    def send(self, what: object) -> None:
        """Send a body, or bytes as they are."""
        self.socket.send(what if isinstance(what, bytes) else pack(what))

    def hears(self, patience: float = PATIENCE) -> object | None:
        """The next body that comes; ``None``: nothing came."""
        if not self.heard:
            if not self.socket.poll(int(patience * 1000)):
                return None
            body = unpack(b"".join(self.socket.recv_multipart()))
            self.heard += body.answers if isinstance(body, Answers) else (body,)
        return self.heard.popleft()

    def greets(self, patience: float = PATIENCE) -> Welcome | None:
        """Whether it is let in: the answer to a greeting."""
        self.send(Hello(1, 1))
        found = self.hears(patience)
        assert found is None or isinstance(found, Welcome)
        return found

    def asks(self, operation, *, to: str = "s1", patience: float = PATIENCE) -> Answer | Failed | None:
        """Ask, and wait for the answer to exactly this."""
        self.number += 1
        self.send(Ask(self.number, to, patience, operation))
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            found = self.hears(left)
            if isinstance(found, Answer | Failed) and found.id == self.number:
                return found
        return None

    def writes(self, key: str, value: object) -> Answer | Failed | None:
        """Write to the key-value store in plain."""
        return self.asks(Submit(PLAIN.encode(("set", key, value)), "plain"))

    def reads(self, key: str, consistency: str = "linearizable") -> Answer | Failed | None:
        """Read from it."""
        return self.asks(Query(PLAIN.encode(("get", key)), "plain", consistency))


class Touch:
    """Whoever loads it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def works(node: Guarded, good: Stranger) -> None:
    """A good client writes and reads, at once."""
    begun = time.monotonic()
    value = begun
    assert isinstance(good.writes("good", value), Answer)
    assert PLAIN.decode(good.reads("good").value) == value
    assert time.monotonic() - begun < 5.0


def is_refused(answer: object, kind: str = "Unauthorized") -> bool:
    """Whether this is an error of that class."""
    return isinstance(answer, Failed) and answer.kind == kind


def counts(node: Guarded, why: str, more_than: int) -> None:
    """Wait until a reason has been counted more often than that."""
    eventually(lambda: node.refused(why) > more_than)


__all__ = ["Guarded", "Stranger", "Touch", "counts", "is_refused", "rss", "works"]

if __name__ == "__main__":
    main()
