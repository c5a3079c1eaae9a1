"""What the documents tell a person to do works, as it stands there; only the addresses are those of this machine."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.machines import KV
from tests.network.servers import free_port
from tests.processes.tools import RAFT_ACTORS, ROOT, finish, start

DOCS = ROOT / "raft_actors" / "docs"


def section(file: str, heading: str) -> str:
    """The text under a heading, to the next one of its kind."""
    text = (DOCS / file).read_text()
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"{file} has no section {heading!r}"
    return found[2]


def commands(text: str) -> list[list[str]]:
    """The commands of all sh blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


class Here:
    """Runs the commands in a folder, with a port of this machine for every host of the documents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {f"10.0.0.{number}": free_port() for number in range(1, 5)}
        self.servers: list[subprocess.Popen[bytes]] = []

    def words(self, words: list[str]) -> list[str]:
        assert words[0] == "raft-actors"
        here = [re.sub(r"(10\.0\.0\.\d):7001", lambda found: f"127.0.0.1:{self.ports[found[1]]}", one) for one in words]
        return [*RAFT_ACTORS, *here[1:]]

    def run(self, words: list[str]) -> str:
        done = finish(self.words(words), self.folder)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def serve(self, words: list[str]) -> None:
        server = start(self.words(words), self.folder, stderr=subprocess.DEVNULL)
        self.servers.append(server)
        assert server.stdout is not None
        assert b"is ready" in server.stdout.readline()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    one = Here(tmp_path)
    yield one
    for server in one.servers:
        server.kill()
        server.communicate()


def three_hosts(here: Here) -> list[list[str]]:
    """Do what ``network.md`` says; returns the commands that are left to run from anywhere."""
    keygen, serve, *rest = commands(section("network.md", "Three hosts in five minutes"))
    here.run(keygen)
    for number in (3, 1, 2):
        own = f"s{number}@10.0.0.{number}:7001"
        here.serve(["raft-actors", "serve", own, *serve[3:]])
    return rest


def test_three_hosts_in_five_minutes(here: Here) -> None:
    write, read, status = three_hosts(here)
    assert here.run(write) == '["ok", "a", 1]\n'
    assert here.run(read) == "1\n"
    assert here.run(status).count("follower") == 2


def test_members_are_changed_on_the_command_line(here: Here) -> None:
    three_hosts(here)
    join = ["serve", "s4@10.0.0.4:7001", "--machine", "raft_actors.machines:KV", "--data-dir", "data", "--keys", "keys"]
    here.serve(["raft-actors", *join])
    add, members, transfer, remove, status = commands(section("operations.md", "On the command line"))
    assert here.run(add).count("voter") == 4
    assert here.run(members).count("voter") == 4
    assert here.run(transfer).startswith("s4@")
    assert here.run(remove).count("voter") == 3
    assert "leader" in here.run(status)


def test_the_better_keys_of_the_documentation_let_each_other_in(here: Here) -> None:
    keygen, *rest = commands(section("security.md", "Quick start, and better"))
    assert keygen == ["raft-actors", "keygen", "keys-s1"]
    folders = [here.folder / f"keys-s{number}" for number in (1, 2, 3)]
    made = [here.run(["raft-actors", "keygen", folder.name]) for folder in folders]
    lines = [re.sub(r" \*\n$", f" {folder.name[-2:]}\n", line) for folder, line in zip(folders, made, strict=True)]
    for folder in folders:
        (folder / "allowed").write_text("".join(lines))
    _, serve, *_ = commands(section("network.md", "Three hosts in five minutes"))
    for number in (1, 2, 3):
        words = ["raft-actors", "serve", f"s{number}@10.0.0.{number}:7001", *serve[3:]]
        here.serve([f"keys-s{number}" if word == "keys" else word for word in words])
    guest = next(words for words in rest if "writer" in words)
    line = here.run(guest)
    for folder in folders:
        with (folder / "allowed").open("a") as file:
            file.write(line)
    keys = [(folder / "public.key").read_text() for folder in folders]
    (here.folder / "ann" / "cluster.key").write_text("".join(keys))
    names = "s1@10.0.0.1:7001,s2@10.0.0.2:7001,s3@10.0.0.3:7001"
    write = ["raft-actors", "write", '["set", "a", 1]', "--connect", names, "--keys", "ann", "--timeout", "20"]
    assert here.run(write) == '["ok", "a", 1]\n'


NAMES = ("s1", "s2", "s3")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[None]:
    """Three members, and four peers that are none yet."""
    names = (*NAMES, "s4", "n1", "n2", "n3")
    for name in names:
        raft.start_peer(KV, name=name, config=raft.Config(data_dir=tmp_path))
    raft.set_configuration("s1", NAMES)
    yield
    for name in names:
        raft.stop(name)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("heading", "before", "after"),
    [
        ("Grow", "", {"s1", "s2", "s3", "s4"}),
        ("Shrink", 'raft.add_peer("s1", "s4")', {"s1", "s2", "s3"}),
        ("Replace a dead peer", 'raft.stop("s3")', {"s1", "s2", "s4"}),
        ("Move to new machines", "", {"n1", "n2", "n3"}),
    ],
)
def test_members_are_changed_as_the_documentation_says(heading: str, before: str, after: set[str]) -> None:
    calls = re.findall(
        r"`(raft\.(?:add_peer|remove_peer|set_configuration)\([^`]*\))`", section("operations.md", heading)
    )
    assert calls
    asked = next(re.finditer(r"\"(\w+)\"", calls[0]))[1]
    found = raft.configuration(asked)
    for call in [before, *calls] if before else calls:
        call = call.replace('("s1", ["n1"', '("n1", ["n1"')  # the other way of the two, after the first one
        found = eval(call, {"raft": raft}) or found
    assert set(found.voters) == after
