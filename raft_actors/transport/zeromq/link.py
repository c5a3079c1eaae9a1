"""One connection to another node: made when somebody has something for it, made anew when it breaks.

::

    IDLE --something to send--> CONNECTING --handshake--> GREETING: Hello --Welcome--> READY
      ^                             | refused, too late          |                        | lost
      +------- pause <--------------+----------------------------+------------------------+

Rule: a request that has not left when the connection fails certainly had no effect; of one that has, nobody knows. The
socket is remade for each try: libzmq never tries again after a refused key, and resolves a name once per socket.

Everything here is done by whoever has the turn of the wire (``turns``); only its own thread makes and ends connections.
"""

from __future__ import annotations

import collections
import logging
import random
import time
from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from raft_actors.errors import OutcomeUnknown, RaftError, Unauthorized
from raft_actors.keys import PEERS
from raft_actors.transport.frames import (
    NEWEST,
    OLDEST,
    Answer,
    Answers,
    Ask,
    BadFrame,
    Beat,
    Confirmed,
    Failed,
    Gone,
    Hello,
    Letter,
    Part,
    Post,
    Welcome,
    pack,
    unpack,
)
from raft_actors.transport.zeromq import reasons
from raft_actors.transport.zeromq.ears import NOWAIT, Ears, may_read, receive
from raft_actors.transport.zeromq.lanes import TOGETHER, WIDE, Lanes
from raft_actors.transport.zeromq.pending import Pending, Requests
from raft_actors.transport.zeromq.server_key import ServerKey
from raft_actors.transport.zeromq.sockets import CONNECTING_FOR, calling, put, show_keys

if TYPE_CHECKING:
    from raft_actors.keys import Keyring

__all__ = ["Link"]

logger = logging.getLogger("raft_actors")

TOLD_AFTER = 8
"""Failures in a row after which somebody is told: a few are nothing while all are being started."""
PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before a lost connection is tried again: doubling, each half to one and a half times that."""
CROWDED = 0.01
"""Seconds for which nobody listens alone, after somebody else came meanwhile: it would be for nothing again."""
EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | reasons.EVENTS


class Link:
    """The connection to the node at ``address``.

    Args:
        context: makes sockets.
        address: ``host:port``.
        own: where this process listens, ``""``: nowhere.
        keys: ours; ``None``: without.
        ears: of the wire.
        lost: told the address when a connection that stood is lost, or a peer there has stopped (with its name).
        refused: counts what is refused, by reason.

    Attributes:
        requests: those that have no answer yet; only to be looked at.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        own: str,
        keys: Keyring | None,
        ears: Ears,
        lost: Callable[[str, str], None],
        refused: collections.Counter[str],
    ) -> None:
        self.address = address
        self.state = "idle"
        self.version = OLDEST
        self.pickle = False
        self.peer = ""
        self._context, self._own, self._keys, self._ears = context, own, keys, ears
        self._lost, self._refused = lost, refused
        self._lanes = Lanes()
        self._news: collections.deque[bytes] = collections.deque()
        self.requests = Requests()
        self._socket: zmq.Socket[Any] | None = None
        self._monitor: zmq.Socket[Any] | None = None
        self._since = self._retry_at = self._hurry_at = self._crowded_until = 0.0
        self._failures = 0
        self._attempt = 0
        self._server = ServerKey(keys)
        self._blocked = False
        self._room = TOGETHER

    # -- what is to be sent --------------------------------------------------------------------------------------------

    def letter(self, letter: Letter) -> None:
        """Take a letter."""
        self.peer = self.peer or letter.to
        self._lanes.add(letter)

    def news(self, body: Gone | Beat) -> None:
        """Take something short that need not be repeated; of no use to a node that is not connected."""
        if self.state == "ready":
            self._news.append(pack(body, self.version))

    def ask(self, pending: Pending) -> None:
        """Take a request."""
        self.peer = self.peer or pending.to
        self.requests.add(pending)

    def ask_now(self, pending: Pending) -> bool:
        """Send a request alone, with one step that is done or not; False: it has to wait, and was not taken."""
        body = self._made(pending, time.monotonic(), (pending.to,) if self._server.may_be(pending.to) else ())
        if body is None:
            return True  # it has its answer
        frame = pack(body, self.version)
        if len(frame) > TOGETHER:
            return False
        self.requests.left(pending)
        self._ears.touch(self._socket)
        if self._put(frame):
            return True
        self.requests.not_left(pending)
        return False

    @property
    def busy(self) -> bool:
        """Whether there is anything to do, now or at some time."""
        if self.requests.unsent or self._lanes.busy or self._news:
            return True
        return self.state not in ("ready", "idle")

    @property
    def at_hand(self) -> bool:
        """Whether it stands, and nothing has to wait: what is given now can leave now."""
        return self.state == "ready" and not self._blocked and self._server.may_be(self.peer)

    # -- turns ---------------------------------------------------------------------------------------------------------

    def attend(self, now: float) -> float:
        """Do what can be done now, and answer those whose time is over; returns when to come again."""
        requests = self.requests
        if now >= requests.due:
            for pending, sent in requests.expired(now):
                pending.end(reasons.too_late(pending.to, self.address, sent=sent))
        return min(requests.due, self._turn(now)) if self.busy else requests.due

    def _turn(self, now: float) -> float:
        self.check_key(now)
        if self.state == "ready":
            self.send()
            return float("inf")
        if self.state == "idle":
            return self._turn_idle(now)
        if now >= self._since + CONNECTING_FOR:
            self._fail(now, reasons.silent(self.peer, self.address))
            return now
        return self._since + CONNECTING_FOR

    def check_key(self, now: float) -> None:
        """Let go of a node whose key was taken off our list."""
        if self.state == "ready" and not self._server.may_be(self.peer):
            self._fail(now, Unauthorized(f"the key of the node at {self.address} is not on our list any more"))

    @property
    def useless(self) -> bool:
        """Whether there is no connection, and nobody wants one."""
        return self.state == "idle" and not (self.requests.all() or self._lanes.busy)

    def _turn_idle(self, now: float) -> float:
        if not (self.requests.unsent or self._lanes.busy):
            return float("inf")
        due = min(self._retry_at, self._hurry_at) if self.requests.unsent else self._retry_at
        if now < due:
            return due
        self._connect(now)
        return now + CONNECTING_FOR

    def _connect(self, now: float) -> None:
        self.state, self._since = "connecting", now
        try:
            self._open()
        except (zmq.ZMQError, ValueError) as error:  # no such address, no such key, no more files
            self._fail(now, reasons.nobody(self.peer, f"there is no way to {self.address}: {error}"))

    def _open(self) -> None:
        self._attempt += 1
        socket = self._socket = calling(self._context, self.address)
        if self._keys is not None:
            socket.curve_serverkey = self._server.choose(self._keys, self.peer, self._attempt - 1).encode()
            show_keys(socket, self._keys)
        self._monitor = socket.get_monitor_socket(EVENTS)
        self._ears.add(self._monitor, self._watch)
        self._ears.add(socket, self._receive)
        socket.connect(f"tcp://{self.address}")

    def _watch(self) -> None:
        """Libzmq tells what becomes of the connection."""
        while self._monitor is not None:
            try:
                parts = self._monitor.recv_multipart(NOWAIT)
            except zmq.Again:
                return
            self._noticed(parse_monitor_message(parts), time.monotonic())

    def _noticed(self, event: Any, now: float) -> None:
        kind = event["event"]
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.state = "greeting"
            self._put(pack(Hello(OLDEST, NEWEST, self._own), OLDEST))
            return
        why = reasons.of_event(kind, self.peer, self.address, self._keys, connecting=self.state == "connecting")
        if why is not None:
            self._fail(now, why)

    # -- the end of a connection ---------------------------------------------------------------------------------------

    def _fail(self, now: float, error: RaftError) -> None:
        """The connection is no more: answer who waited for it."""
        stood, shaking = self.state == "ready", self.state == "connecting"
        self.close()
        self._failures = 0 if stood else self._failures + 1
        pause = min(LONGEST_PAUSE, PAUSE * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.5)
        self._retry_at, self._hurry_at = now + pause, now + (0.0 if stood else PAUSE)
        if stood or self._failures == TOLD_AFTER:
            logger.warning("no way to the node at %s: %s", self.address, error)
        others = self._keys is not None and len(self._keys.servers(self.peer)) > self._failures
        if shaking and others:  # its node may have another of the keys that we know
            self._retry_at = self._hurry_at = now
        else:
            self._answer_all(error)
        if stood:
            self._lost(self.address, "")

    def _answer_all(self, error: RaftError) -> None:
        unknown = OutcomeUnknown(f"the connection to {self.address} broke before the answer came")
        unknown.__cause__ = error
        self.requests.fail(unsent=error, sent=unknown)
        self._lanes.clear()

    def give_up(self, error: RaftError) -> None:
        """The wire is closed."""
        self.close()
        self._answer_all(error)

    def close(self) -> None:
        """Let go of the sockets."""
        self.state, self._blocked = "idle", False
        self._news.clear()
        socket, self._socket = self._socket, None
        monitor, self._monitor = self._monitor, None
        for one in (socket, monitor):
            if one is not None:
                self._ears.remove(one)
        if socket is not None:
            socket.disable_monitor()
            socket.close(0)

    # -- traffic -------------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Its socket may have been used: it is asked before the wire's thread sleeps."""
        self._ears.touch(self._socket)

    @property
    def socket(self) -> zmq.Socket[Any] | None:
        """What one caller may listen to, if his is the only request, and there is nothing else to do: else ``None``."""
        alone = self.requests.count == 1 and not self.busy
        return self._socket if alone and time.monotonic() >= self._crowded_until else None

    def take_answer(self) -> bool:
        """Take what has come if it can only be the answer to one request; returns whether to go on listening."""
        waiting = self.requests.count
        if waiting > 1:
            self._crowded_until = time.monotonic() + CROWDED
        if waiting != 1 or self.busy or self._socket is None or not self._server.may_be(self.peer):
            return False
        self.touch()
        try:
            self._take(unpack(receive(self._socket)))
        except zmq.Again:
            return True
        except BadFrame as error:
            self._refused[str(error)] += 1
        return True

    def _receive(self) -> bool:
        """Take what has come; returns whether nothing is left to be done here."""
        for _ in range(1000):  # then others have their turn
            if self._socket is None:
                break
            try:
                frame = receive(self._socket)
            except zmq.Again:
                break
            if not self._server.may_be(self.peer):
                self._refused["key not allowed"] += 1
                self._ears.touch(self._socket)
                self.check_key(time.monotonic())
                return False
            try:
                self._take(unpack(frame))
            except BadFrame as error:
                self._refused[str(error)] += 1
            if not may_read(self._socket):  # so it was asked
                break
        else:
            self._ears.touch(self._socket)
        quiet = self.state == "ready" and not self.busy
        if not quiet and self.state == "ready":
            self.send()
        return quiet

    def _take(self, body: object) -> None:
        match body:
            case Answer() | Failed():
                self.requests.answered((body,))
            case Answers():
                self.requests.answered(body.answers)
            case Confirmed():
                self._lanes.window.confirmed(time.monotonic())
            case Welcome() if not OLDEST <= body.version <= NEWEST:
                self._refused["no common version"] += 1
            case Welcome():
                self.version, self.pickle = body.version, body.pickle
                self._room = WIDE if not self._own and body.role in PEERS else TOGETHER
                self.state, self._failures = "ready", 0
            case _:
                self._refused["not for a client"] += 1

    def send(self) -> None:
        """Send what there is and what there is room for; the urgent first."""
        self._blocked, lanes = False, self._lanes
        while self._news and self._put(self._news[0]):
            self._news.popleft()
        while lanes.busy and not self._blocked and (letters := lanes.small()):
            meant = [letter for letter in letters if self._server.may_be(letter.to)]
            if len(meant) < len(letters):
                self._refused["not at that node"] += len(letters) - len(meant)
            if not meant or self._put(pack(Post(self._own, tuple(meant)), self.version)):
                lanes.small_sent(len(letters))
        while self.requests.unsent and not self._blocked:
            body = self.requests.batch(self._made_all, self._room)
            if body is None or self._put(pack(body, self.version)):
                self.requests.batch_left()
        while lanes.busy and not self._blocked and (part := lanes.part(self._frame_of)) is not None:
            data, at, whole = part
            if self._put(pack(Part(self._own, at, whole, data), self.version)):
                lanes.part_sent(time.monotonic())
        self._ears.touch(self._socket)

    def _frame_of(self, letter: Letter) -> bytes:
        return pack(Post(self._own, (letter,)), self.version)

    def _made_all(self, several: list[Pending], now: float) -> Iterator[Ask | None]:
        """Requests as they leave; whose node this is, is looked up once for each peer."""
        here = {name for name in {pending.to for pending in several} if self._server.may_be(name)}
        for pending in several:
            yield self._made(pending, now, here)

    def _made(self, pending: Pending, now: float, here: Container[str]) -> Ask | None:
        """The request as it leaves; ``None``: it has its answer already. ``here``: peers that may be of that node."""
        if pending.open and pending.to not in here:
            pending.end(Unauthorized(f"the key of the node at {self.address} is not one of {pending.to}'s node"))
        try:
            return pending.ask(now, pickle=self.pickle) if pending.open else None
        except RaftError as error:
            pending.end(error)
            return None

    def _put(self, frame: bytes) -> bool:
        if self._socket is None:
            return False
        self._blocked = not put(self._socket, frame)
        return not self._blocked
