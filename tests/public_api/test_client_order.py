"""``Client`` under load: the order of writes, what is applied how often, and what its answers are worth."""

from __future__ import annotations

import signal
import threading

import pytest

import raft_actors as raft
from raft_actors.machines import Counter, Stack
from tests.public_api.client_tools import NAMES, crash, outcome, started


def test_a_write_whose_outcome_is_unknown_is_not_repeated(cluster):
    with raft.Client(cluster(Counter), timeout=20.0) as client:
        futures = [client.write(("add", 1), block=False) for _ in range(3000)]
        futures[500].get()
        crash(client.leader())
        outcomes = [outcome(future) for future in futures]
        applied, unknown = outcomes.count("applied"), outcomes.count("OutcomeUnknown")
        assert applied + unknown == 3000, set(outcomes)
        assert applied <= client.read("value") <= applied + unknown


@pytest.mark.parametrize("timeout", [-1, float("nan"), "3"])
@pytest.mark.parametrize("block", [True, False])
def test_a_write_that_was_never_sent_keeps_no_later_one_of_its_thread_waiting(cluster, timeout, block):
    with raft.Client(cluster(Counter), timeout=20.0) as client:
        assert client.write(("add", 1)) == 1
        with pytest.raises((ValueError, TypeError)):
            client.write(("add", 1), timeout=timeout, block=block)
        assert client.write(("add", 1), timeout=10.0) == 2


def test_an_interrupt_before_a_write_is_sent_keeps_no_later_one_of_its_thread_waiting(cluster, monkeypatch):
    with raft.Client(cluster(Counter), timeout=20.0) as client:
        assert client.write(("add", 1)) == 1
        with monkeypatch.context() as patch:
            patch.setattr(client._tries, "_try", lambda request: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                client.write(("add", 1))
        assert client.write(("add", 1), timeout=10.0) == 2


@pytest.mark.parametrize("limit", [3, 100, 20_000])
def test_pipelined_writes_of_one_thread_keep_their_order_through_refusals(cluster, limit):
    with raft.Client(cluster(Stack, max_pending_writes=limit), timeout=60.0) as client:
        futures = [client.write(("put", number), block=False) for number in range(600)]
        assert [future.get() for future in futures] == list(range(1, 601))
        assert client.read("all")[::-1] == list(range(600))


def test_a_hundred_threads_share_a_client_through_the_death_of_a_leader(cluster):
    with raft.Client(cluster(Counter), timeout=60.0) as client:
        outcomes: list[str] = []
        ready = threading.Barrier(101)

        def work() -> None:
            ready.wait()
            outcomes.extend(outcome(client.write(("add", 1), block=False)) for _ in range(20))

        threads = [threading.Thread(target=work) for _ in range(100)]
        for thread in threads:
            thread.start()
        ready.wait()
        crash(client.leader())
        for thread in threads:
            thread.join(60)
        assert len(outcomes) == 2000
        assert set(outcomes) <= {"applied", "OutcomeUnknown"}
        assert outcomes.count("applied") <= client.read("value") <= 2000


def test_not_applied_is_the_truth_also_for_writes_whose_time_runs_out_while_peers_come_and_go(config):
    """The deadline and the next try race: a write that was answered with NotApplied must never be sent."""
    started(Counter, config)
    outcomes: list[str] = []
    over = threading.Event()

    def work(client: raft.Client, timeout: float) -> None:
        while not over.is_set():
            futures = [client.write(("add", 1), timeout=timeout * (1 + n % 7), block=False) for n in range(20)]
            outcomes.extend(outcome(future) for future in futures)

    with raft.Client(NAMES, timeout=30.0) as client:
        threads = [threading.Thread(target=work, args=(client, 0.002 * n)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            leader = client.leader()
            crash(leader)
            raft.start_peer(Counter, name=leader, config=config)
        over.set()
        for thread in threads:
            thread.join(30)
        value, applied, unknown = client.read("value"), outcomes.count("applied"), 0
    for name in ("OutcomeUnknown", "Timeout"):
        unknown += outcomes.count(name)
    assert applied <= value <= applied + unknown
    assert set(outcomes) - {"applied", "OutcomeUnknown", "Timeout"}, "no write ran out of time while it waited"
