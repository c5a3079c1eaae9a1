"""Far more writes of one client are wanted than a server takes at once: all are done, in their order, and once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.keys import keygen
from tests.network.servers import Servers

WRITES = 15_000
PATIENCE = 120.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    keygen(tmp_path / "keys")
    with Servers(tmp_path, tmp_path / "keys") as three:
        three.serve(machine="tests.network.journal:Journal")
        three.leader()
        yield three


def written(client: raft.Client, who: int = 0, meanwhile: Callable[[], object] = bool) -> None:
    """Write without waiting, then wait for all."""
    futures = []
    for number in range(WRITES):
        futures.append(client.write(((who, number), None), block=False))
        if len(futures) == WRITES // 2:
            meanwhile()
    for future in futures:
        future.get()


def in_order(who: int = 0) -> list[tuple[int, int]]:
    return [(who, number) for number in range(WRITES)]


def entries_of(client: raft.Client) -> int:
    """How many there are, by those that answer."""
    return max(one.last_index for one in client.status().values() if isinstance(one, raft.Status))


def test_many_times_what_a_server_takes_is_written_once_with_hardly_an_entry_more(servers: Servers) -> None:
    with servers.client(timeout=PATIENCE) as client:
        written(client)
        assert client.read("all") == in_order()
        assert entries_of(client) < 1.5 * WRITES


def test_clients_that_share_a_connection_come_to_share_what_it_takes(servers: Servers) -> None:
    clients = [servers.client(timeout=PATIENCE) for _ in range(3)]
    threads = [threading.Thread(target=written, args=(client, who)) for who, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = clients[0].read("all")
    for who in range(3):
        assert [one for one in found if one[0] == who] == in_order(who)
    assert entries_of(clients[0]) < 2 * 3 * WRITES
    for client in clients:
        client.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_that_dies_or_hangs_among_them_costs_few_entries(servers: Servers, number: signal.Signals) -> None:
    leader = servers.leader()
    with servers.client(timeout=PATIENCE) as client:
        written(client, meanwhile=lambda: servers.signal(leader, number))
        assert client.read("all") == in_order()
    with raft.Client(_others(servers, leader), keys=servers.keys) as client:
        assert entries_of(client) < 2 * WRITES


def _others(servers: Servers, leader: str) -> list[str]:
    return [full for name, full in servers.addresses.items() if name != leader]
