"""Who gets work by what a wire brought is woken when the wire has sent what it had, also after an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from raft_actors.lending import LendingChannel, rouse
from raft_actors.mailbox import Channel
from raft_actors.transport.zeromq.wire import Wire
from tests.network.servers import eventually


class Disk:
    """Sleeps until it is woken for something."""

    def __init__(self) -> None:
        self.channel, self.done = Channel(), []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        eventually(lambda: self.channel._asleep)

    def _run(self) -> None:
        while not self.channel.closed:
            self.channel.get()
            self.done += self.channel.take()

    def end(self) -> None:
        self.channel.close()
        self._thread.join(10)


class Link:
    """Stands for a connection: notes whether the disk slept still when it was its turn to send."""

    useless, busy, at_hand = False, False, False

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.slept: list[bool] = []
        self.fails = 0

    def attend(self, now: float) -> float:
        if self._disk.channel._items:
            self.slept.append(self._disk.channel._asleep)
            if self.fails:
                self.fails -= 1
                raise RuntimeError("planted")
        return float("inf")

    def give_up(self, error: Exception) -> None:
        """The wire ends."""


@pytest.fixture
def disk() -> Iterator[Disk]:
    one = Disk()
    yield one
    one.end()


@pytest.mark.parametrize("fails", [0, 10**9], ids=["all is well", "an error again and again"])
def test_the_disk_is_roused_after_the_links_had_their_turn_and_after_an_error_too(disk: Disk, fails: int) -> None:
    wire, peer, link = Wire(None), LendingChannel(), Link(disk)
    peer._asleep, link.fails = True, fails
    wire._links["somewhere:1"] = link  # type: ignore[assignment]

    def turn() -> bool:
        disk.channel.leave(peer.take())
        rouse(disk.channel)
        return False

    peer.turn = turn
    wire.start()
    wire._put(lambda: peer.post("job"))  # type: ignore[arg-type, return-value]
    eventually(lambda: disk.done == ["job"])
    wire.close()
    assert link.slept[0]
