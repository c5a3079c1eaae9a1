"""``raft-actors serve --metrics``: what Prometheus reads from the process of a peer."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.tools import KV, RAFT_ACTORS, eventually, one_line, raft_actors, start

pytest.importorskip("zmq")

SERVE = ["serve", "s1@127.0.0.1:0", "--machine", KV, "--data-dir", "data", "--insecure"]


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    """A process of one peer, and what it said until it was ready."""
    with start([*RAFT_ACTORS, *SERVE, *options], folder) as program:
        try:
            said = [program.stdout.readline().decode().strip()]
            while said[-1] and not said[-1].endswith("is ready"):
                said.append(program.stdout.readline().decode().strip())
            yield program, said
        finally:
            program.kill()


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10.0) as answer:
        return answer.read().decode()


def test_a_served_peer_is_scraped_until_it_stops(tmp_path) -> None:
    with served(tmp_path, "--metrics", "127.0.0.1:0") as (program, said):
        where, ready = said
        assert ready.startswith("s1@127.0.0.1:")
        url = where.removeprefix("metrics at ")
        assert url.startswith("http://127.0.0.1:")
        text = scrape(url)
        assert 'raft_actors_peer_up{peer="s1"} 1.0' in text
        assert "process_resident_memory_bytes" in text  # what prometheus-client knows by itself
        program.send_signal(signal.SIGTERM)
        assert program.wait(20.0) == 0
        assert program.stderr.read() == b""


def test_without_the_option_nothing_is_served(tmp_path) -> None:
    with served(tmp_path) as (_, said):
        assert len(said) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ""])
def test_an_address_that_is_none_is_bad_usage(tmp_path, address) -> None:
    done = raft_actors(*SERVE, "--metrics", address, folder=tmp_path)
    assert done.returncode == 2
    assert "--metrics" in one_line(done.stderr)
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_one_line_and_starts_no_peer(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = raft_actors(*SERVE, "--metrics", address, folder=tmp_path)
    assert done.returncode == 1
    assert f"metrics cannot be served at {address}" in one_line(done.stderr)
    assert not (tmp_path / "data").exists()


def test_without_the_extra_the_option_says_what_to_install(tmp_path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')\n")
    done = raft_actors(*SERVE, "--metrics", "127.0.0.1:0", folder=tmp_path)
    assert done.returncode == 1
    assert "pip install 'raft-actors[metrics]'" in one_line(done.stderr)


def test_writes_of_another_process_move_what_is_scraped(tmp_path) -> None:
    port = free_port()
    peer = f"s1@127.0.0.1:{port}"
    words = ["serve", peer, "--machine", KV, "--data-dir", "data", "--insecure", "--peers", peer]
    with start([*RAFT_ACTORS, *words, "--metrics", "127.0.0.1:0"], tmp_path) as program:
        try:
            url = program.stdout.readline().decode().strip().removeprefix("metrics at ")
            eventually(lambda: 'raft_actors_role{peer="s1",role="leader"} 1.0' in scrape(url))
            before = scrape(url)
            done = raft_actors(
                "write", "--connect", peer, "--insecure", '["set", "a", 1]', folder=tmp_path, timeout=30.0
            )
            assert done.returncode == 0, done.stderr
            after = scrape(url)
            assert 'raft_actors_commit_seconds_count{peer="s1"} 0.0' in before
            assert 'raft_actors_commit_seconds_count{peer="s1"} 0.0' not in after
        finally:
            program.kill()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
