"""Requests that do not block: futures, messages, pipelining."""

from __future__ import annotations

import asyncio
import threading
import time

import pykka
import pytest

import raft_actors as raft
from raft_actors.testing import Cluster
from tests.threads.tools import Recorder, outcome, wait_until


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def ref_of(name: str) -> pykka.ActorRef:
    return next(ref for ref in pykka.ActorRegistry.get_all() if getattr(ref.actor_inbox, "name", "") == name)


def test_writes_that_one_thread_pipelines_are_applied_in_their_order() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        futures = [raft.write(leader, number, block=False) for number in range(3000)]
        assert [future.get() for future in futures] == list(range(1, 3001))
        assert cluster.read("all") == list(range(3000))
        cluster.converged()


def test_writes_of_many_threads_keep_the_order_of_each() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)

        def send(lane: int) -> None:
            futures = [raft.write(leader, (lane, number), block=False) for number in range(300)]
            for future in futures:
                future.get()

        threads = [threading.Thread(target=send, args=(lane,)) for lane in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        applied = cluster.read("all")
        for lane in range(8):
            assert [number for one, number in applied if one == lane] == list(range(300))


def test_a_future_tells_the_index_at_which_it_was_applied() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        futures = [raft.write(leader, number, block=False) for number in range(100)]
        for future in futures:
            future.get()
        indexes = [future.index for future in futures]
        assert indexes == list(range(indexes[0], indexes[0] + 100))
        logged = {entry.index: entry.command for entry in cluster.entries(leader)}
        assert [logged[index] for index in indexes] == list(range(100))


def test_the_index_of_a_read_never_goes_back_for_one_caller() -> None:
    with Cluster(Recorder) as cluster:
        newest = 0
        for number in range(60):
            leader = leader_of(cluster)
            written = raft.write(leader, number, block=False)
            written.get()
            name = cluster.names[number % 3]
            seen = raft.read(name, "len", block=False)
            assert seen.get() == number + 1
            assert seen.index >= written.index >= newest
            newest = seen.index


def test_the_index_of_a_failed_command_is_known_too() -> None:
    with Cluster(Recorder, 1) as cluster:
        future = raft.write("s1", ("raise", ValueError()), block=False)
        assert isinstance(outcome(future), raft.CommandFailed)
        assert future.index == cluster.status("s1").last_index


def test_a_callback_is_called_once_with_its_future() -> None:
    with Cluster(Recorder, 1):
        called: list[raft.futures.RequestFuture] = []
        future = raft.write("s1", "x", block=False)
        future.add_done_callback(called.append)
        future.get()
        wait_until(lambda: called)
        future.add_done_callback(called.append)
        assert called == [future, future]


def test_a_future_can_be_awaited_without_blocking_the_loop() -> None:
    with Cluster(Recorder, 1):

        async def main() -> tuple[int, int]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.005)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            reply = await raft.write("s1", ("sleep", 0.3), block=False)
            ticking.cancel()
            return reply, ticks

        reply, ticks = asyncio.run(main())
        assert reply == 1
        assert ticks > 10


def test_awaited_errors_are_raised() -> None:
    with Cluster(Recorder, 1):

        async def main() -> None:
            await raft.write("s1", ("raise", KeyError("planted")), block=False)

        with pytest.raises(raft.CommandFailed, match="planted"):
            asyncio.run(main())


def test_without_blocking_every_error_of_the_library_is_in_the_future() -> None:
    with Cluster(Recorder) as cluster:
        follower = next(name for name in cluster.names if name != leader_of(cluster))
        assert isinstance(outcome(raft.write(follower, "x", block=False)), raft.NotLeader)
        assert isinstance(outcome(raft.write("nobody", "x", block=False)), raft.UnknownPeer)
        assert isinstance(outcome(raft.write("not a name", "x", block=False)), raft.InvalidName)
        assert isinstance(outcome(raft.write(follower, threading.Lock(), block=False)), raft.InvalidCommand)


def test_wrong_arguments_are_raised_at_once_even_without_blocking() -> None:
    with Cluster(Recorder, 1):
        with pytest.raises(ValueError, match="consistency='eventual'"):
            raft.read("s1", "len", consistency="eventual", block=False)
        with pytest.raises(ValueError, match="min_index"):
            raft.read("s1", "len", min_index=3, block=False)
        with pytest.raises(TypeError, match="timeout"):
            raft.write("s1", "x", timeout="soon", block=False)
        with pytest.raises(TypeError):
            raft.write("s1", block=False)  # type: ignore[call-arg]


# -- messages --------------------------------------------------


def test_an_asked_write_is_answered_when_it_is_applied_and_not_with_a_nested_future() -> None:
    with Cluster(Recorder) as cluster:
        ref = ref_of(leader_of(cluster))
        assert ref.ask(raft.Write("x"), timeout=3.0) == 1
        assert ref.ask(raft.Read("all"), timeout=3.0) == ["x"]
        assert ref.ask(raft.Read("len", consistency="stale"), timeout=3.0) == 1
        assert ref.ask(raft.GetStatus(), timeout=3.0).role == "leader"


def test_an_ask_at_a_follower_is_redirected() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        follower = next(name for name in cluster.names if name != leader)
        with pytest.raises(raft.NotLeader) as caught:
            ref_of(follower).ask(raft.Write("x"), timeout=3.0)
        assert caught.value.leader == leader
        assert ref_of(follower).ask(raft.Read("len"), timeout=3.0) == 0


def test_an_ask_without_blocking_gives_one_of_our_futures() -> None:
    with Cluster(Recorder) as cluster:
        future = ref_of(leader_of(cluster)).ask(raft.Write("x"), block=False)
        assert future.get(timeout=3) == 1
        assert isinstance(future, raft.futures.RequestFuture)
        assert future.index is not None


def test_an_ask_that_times_out_raises_what_pykka_users_catch() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.pause(leader)
        with pytest.raises(pykka.Timeout):
            ref_of(leader).ask(raft.Write("x"), timeout=0.2)
        cluster.resume(leader)


def test_told_writes_are_applied() -> None:
    with Cluster(Recorder) as cluster:
        ref = ref_of(leader_of(cluster))
        for number in range(100):
            ref.tell(raft.Write(number))
        cluster.eventually(lambda: cluster.read("all") == list(range(100)))


def test_a_told_write_that_fails_disturbs_nobody() -> None:
    with Cluster(Recorder) as cluster:
        ref = ref_of(leader_of(cluster))
        ref.tell(raft.Write(("raise", ValueError())))
        ref.tell(raft.Write(threading.Lock()))
        ref.tell(raft.Write("x"))
        cluster.eventually(lambda: cluster.read("all") == ["x"])


def test_status_is_answered_at_once_by_a_frozen_peer() -> None:
    with Cluster(Recorder) as cluster:
        leader = leader_of(cluster)
        cluster.pause(leader)
        begin = time.monotonic()
        assert ref_of(leader).ask(raft.GetStatus(), timeout=3.0).name == leader
        assert raft.status(leader).name == leader
        assert time.monotonic() - begin < 0.5
        cluster.resume(leader)
