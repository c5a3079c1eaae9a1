"""Random and mutated frames, at the code that takes them or at a socket.

    python -m tests.network.fuzzing --frames 10000000 [--seed N] [--socket ADDRESS --keys DIR]

In this process, the frames go where a door would hand them: ``unpack``, and then a server whose node has one peer that
writes down what it is given. Whatever comes of a frame, it is no exception but a ``BadFrame``, no file is created by a
pickle, and what a peer is given keeps the rules.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import pickle
import random
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import zmq

import raft_actors as raft
from raft_actors.keys import ROLES, Guest
from raft_actors.machines import Echo
from raft_actors.network import NodeTransport
from raft_actors.protocol.validity import why_malformed
from raft_actors.serving import Server
from raft_actors.transport.frames import MAGIC, BadFrame, Hello, Submit, Welcome, pack, unpack
from raft_actors.transport.local import LOCAL
from raft_actors.transport.zeromq.door import MAY_SAY_ALL, Incoming, Reply
from raft_actors.transport.zeromq.held import Held
from tests.network.sound_frames import all_bodies

__all__ = ["Fuzzer", "Target", "campaign"]

HEAD = 12
INTERESTING = [
    0,
    1,
    0x7F,
    0x80,
    0x8F,
    0x90,
    0x9F,
    0xA0,
    0xC0,
    0xC1,
    0xC4,
    0xC6,
    0xC9,
    0xCB,
    0xCF,
    0xD3,
    0xDD,
    0xDF,
    0xFF,
]
GUESTS = [*(Guest(role, "s2") for role in ROLES), Guest("peer", "*"), Guest("insecure", "*")]


class Touch:
    """Whoever loads it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Fuzzer:
    """Frames that nobody sends: always the same ones of a seed.

    Args:
        seed: the seed.
        mark: a file that the pickles among them would create.
    """

    def __init__(self, seed: int, mark: Path | None = None) -> None:
        self.dice = random.Random(seed)
        bomb = [] if mark is None else [pack(self._ask(Submit(pickle.dumps(Touch(mark)), "cloudpickle")))]
        self.golden = [*map(pack, all_bodies()), *bomb]

    @staticmethod
    def _ask(operation: Submit):
        from raft_actors.transport.frames import Ask

        return Ask(1, "s1", 0.05, operation)

    def frame(self) -> bytes:
        """The next one."""
        dice = self.dice
        kind = dice.random()
        if kind < 0.02:
            return dice.randbytes(dice.randrange(200))
        if kind < 0.04:
            return sealed(dice.randbytes(dice.randrange(1, 100)))
        frame = bytearray(dice.choice(self.golden))
        if kind < 0.09:
            self._mutate(frame, 0)
            return bytes(frame)
        for _ in range(1 if kind < 0.6 else dice.randrange(1, 6)):
            self._mutate(frame, HEAD)
        return sealed(bytes(frame[HEAD:]))

    def _mutate(self, frame: bytearray, start: int) -> None:
        dice = self.dice
        at = dice.randrange(start, len(frame)) if len(frame) > start else start
        match dice.randrange(8):
            case 0 | 1 if at < len(frame):
                frame[at] ^= 1 << dice.randrange(8)
            case 2 if at < len(frame):
                frame[at] = dice.choice(INTERESTING)
            case 3:
                del frame[at:]
            case 4:
                del frame[at : at + dice.randrange(1, 9)]
            case 5:
                frame[at:at] = dice.randbytes(dice.randrange(1, 9))
            case 6:
                other = dice.choice(self.golden)
                cut = dice.randrange(HEAD, len(other))
                frame[at:] = other[cut:]
            case _:
                frame[at : at + 1] = dice.choice([b"\xcf", b"\xd3", b"\xcb"]) + dice.randbytes(8)


def sealed(body: bytes) -> bytes:
    """A frame whose checksum is right, whatever its body is."""
    return struct.pack(">4sB3xI", MAGIC, 1, zlib.crc32(body)) + body


class Target:
    """What frames are handed to: a server whose wire is none, and a node whose peer writes down what it is given."""

    def __init__(self) -> None:
        self.refused: collections.Counter[str] = collections.Counter()
        self.answers = 0
        self.given: list[object] = []
        self.held = Held(self.refused)
        wire = SimpleNamespace(refused=self.refused, reply=self._reply, has_keys=True, held=self.held)
        wire.gone = wire.beat_next = lambda *_: None
        self.node = NodeTransport(wire, "127.0.0.1:1")
        self.node.enter("s1", lambda: None)
        self.server = Server(self.node)

    def _reply(self, reply: Reply, *, alone: bool = False) -> None:
        unpack(pack(reply.body, reply.version))
        self.answers += 1
        self.held.leave(reply.route, reply.size)
        self.server.left([reply])

    def take(self, frame: bytes, guest: Guest) -> None:
        """As the door does."""
        try:
            body = unpack(frame, asking=guest.role not in MAY_SAY_ALL)
            self.server.take(Incoming(b"route", guest, body, frame[4], len(frame), guest.role))
        except BadFrame as error:  # a part that does not follow is found by the server only
            self.refused[str(error)] += 1

    def heard(self, event: object) -> None:
        """The peer is given something."""
        message = getattr(event, "message", None)
        assert message is None or not why_malformed(message), message


class NoComplaints(logging.Handler):
    """An exception that was caught and logged is one nevertheless."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and len(self.found) < 100:
            self.found.append(logging.Formatter().format(record))


@contextlib.contextmanager
def peer_at(target: Target) -> Iterator[NoComplaints]:
    """A peer ``s1`` that answers requests, whose messages go to the target instead."""
    complaints = NoComplaints()
    logger = logging.getLogger("raft_actors")
    logger.addHandler(complaints)
    raft.start_peer(Echo, name="s1", config=raft.Config(storage="memory", codec="plain"))
    try:
        raft.set_configuration("s1", ["s1"])
        LOCAL.join("s1", target.heard)
        yield complaints
    finally:
        raft.stop_peer("s1")
        logger.removeHandler(complaints)


def campaign(count: int, seed: int, *, show: bool = False) -> Target:
    """Hand so many frames on in this process.

    Raises:
        AssertionError: something was found; the seed and the number of the frame are in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "loaded"
        fuzzer, target, begun = Fuzzer(seed, mark), Target(), time.monotonic()
        with peer_at(target) as complaints:
            for number in range(count):
                frame, guest = fuzzer.frame(), GUESTS[number % len(GUESTS)]
                trusted = guest.trusted and b"pathlib" in frame
                try:
                    if not trusted:
                        target.take(frame, guest)
                except BaseException as error:
                    raise AssertionError(f"seed {seed}, frame {number} of {guest.role}: {frame!r}") from error
                if complaints.found or (number % 1000 == 0 and mark.exists()):
                    raise AssertionError(f"seed {seed}, frame {number} of {guest.role}: {complaints.found} {frame!r}")
                if show and number % 500_000 == 499_999:
                    print(f"{number + 1} frames, {(number + 1) / (time.monotonic() - begun):.0f}/s", flush=True)
            assert not mark.exists(), f"seed {seed}: a pickle was loaded"
    return target


def at_socket(address: str, keys: Path | None, count: int, seed: int) -> float:
    """Send so many frames to a node; returns how many a second."""
    fuzzer, begun = Fuzzer(seed), time.monotonic()
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            listed = keys / "cluster.key"
            server = listed if listed.exists() else keys / "public.key"
            socket.curve_serverkey = server.read_text().split()[0].encode()
            socket.curve_publickey = (keys / "public.key").read_text().strip().encode()
            socket.curve_secretkey = (keys / "secret.key").read_text().strip().encode()
        socket.connect(f"tcp://{address}")
        for number in range(count):
            socket.send(fuzzer.frame())
            while number % 100 == 0 and socket.poll(0):
                socket.recv_multipart()
        socket.send(pack(Hello(1, 1)))
        while not isinstance(unpack(b"".join(socket.recv_multipart())), Welcome):
            pass
    return count / (time.monotonic() - begun)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Throw random and mutated frames at a node.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--socket", metavar="ADDRESS", help="a node; left out: the code, in this process")
    parser.add_argument("--keys", type=Path, metavar="DIR")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    begun = time.monotonic()
    if args.socket:
        at_socket(args.socket, args.keys, args.frames, seed)
    else:
        target = campaign(args.frames, seed, show=True)
        print(f"{target.answers} answers; refused: {dict(target.refused.most_common())}")
    seconds = time.monotonic() - begun
    print(f"{args.frames} frames in {seconds:.1f} s: {args.frames / seconds:.0f}/s, nothing found")


if __name__ == "__main__":
    sys.exit(main())
