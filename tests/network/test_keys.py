"""Keys and the list of those who are let in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors import keys
from raft_actors.cli import main
from raft_actors.keys import Guest, Keyring, keygen


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_AGAIN", 0.0)


def test_a_peer_gets_a_pair_of_keys_and_a_list_with_itself_on_it(tmp_path: Path) -> None:
    line = keygen(tmp_path / "k")
    assert stat.S_IMODE((tmp_path / "k" / "secret.key").stat().st_mode) == 0o600
    public = (tmp_path / "k" / "public.key").read_text().strip()
    assert (tmp_path / "k" / "allowed").read_text() == f"{line}\n" == f"peer {public} *\n"
    assert Keyring(tmp_path / "k").guest(public) == Guest("peer", "*")


def test_no_name_is_not_the_folder_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(raft.Refused, match="empty"):
        keygen("")
    assert main(["keygen", ""]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ["admin", "trusted", "writer", "reader"])
def test_a_guest_gets_keys_only(tmp_path: Path, role: str) -> None:
    line = keygen(tmp_path / "ann", role)
    assert sorted(path.name for path in (tmp_path / "ann").iterdir()) == ["public.key", "secret.key"]
    assert line == f"{role} {(tmp_path / 'ann' / 'public.key').read_text().strip()} ann"


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    keygen(tmp_path)
    before = (tmp_path / "secret.key").read_text()
    with pytest.raises(raft.Refused, match="exists already"):
        keygen(tmp_path)
    assert (tmp_path / "secret.key").read_text() == before


def test_a_list_that_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text("# ours\n")
    keygen(tmp_path)
    assert (tmp_path / "allowed").read_text() == "# ours\n"


def test_there_are_five_roles(tmp_path: Path) -> None:
    with pytest.raises(raft.Refused, match="no role 'king'"):
        keygen(tmp_path, "king")
    assert not list(tmp_path.iterdir())


def test_the_list_is_read_again_when_it_changes(tmp_path: Path) -> None:
    keygen(tmp_path)
    ring, other = Keyring(tmp_path), "a" * 40
    assert ring.guest(other) is None
    with (tmp_path / "allowed").open("a") as file:
        file.write(f"writer {other} ann\n")
    assert ring.guest(other) == Guest("writer", "ann")
    (tmp_path / "allowed").write_text("")
    assert ring.guest(other) is None


def test_a_list_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    keygen(tmp_path)
    ring = Keyring(tmp_path)
    assert ring.guest(ring.public) is not None
    (tmp_path / "allowed").write_bytes(b"\xff\xfe")
    assert ring.guest(ring.public) is None
    (tmp_path / "allowed").unlink()
    assert ring.guest(ring.public) is None


@pytest.mark.parametrize("line", ["", "peer", "king {key} x", "peer {key}x x", "# peer {key} x", "peer {short} x"])
def test_a_line_that_is_none_lets_nobody_in(tmp_path: Path, line: str) -> None:
    keygen(tmp_path)
    key = "b" * 40
    (tmp_path / "allowed").write_text(line.format(key=key, short="b" * 39) + "\n")
    assert Keyring(tmp_path).guest(key) is None


@pytest.mark.parametrize(
    ("name", "peer", "may"),
    [
        ("*", "s1", True),
        ("s1", "s1", True),
        ("s1", "s2", False),
        ("s1,s2", "s2", True),
        ("s*", "s17", True),
        ("s*", "t1", False),
        ("S1", "s1", False),
    ],
)
def test_a_peer_speaks_as_the_names_of_its_line_only(name: str, peer: str, may: bool) -> None:
    assert Guest("peer", name).may_speak_as(peer) is may
    assert not Guest("admin", name).may_speak_as(peer)


def test_only_peers_and_trusted_ones_may_send_a_pickle() -> None:
    assert {role for role in keys.ROLES if Guest(role, "*").trusted} == {"peer", "trusted"}


def test_a_guest_knows_the_cluster_by_its_public_key(tmp_path: Path) -> None:
    keygen(tmp_path, "writer")
    (tmp_path / "cluster.key").write_text("c" * 40 + "\n" + "d" * 40 + "\n")
    assert Keyring(tmp_path).servers("s1") == ["c" * 40, "d" * 40]


def test_a_peer_tries_the_key_with_the_very_name_first(tmp_path: Path) -> None:
    keygen(tmp_path)
    with (tmp_path / "allowed").open("a") as file:
        file.write(f"peer {'c' * 40} s1\npeer {'d' * 40} s2\n")
    ring = Keyring(tmp_path)
    assert ring.servers("s2") == ["d" * 40, ring.public]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "secret.key").unlink(), "there is no"),
        (lambda folder: (folder / "public.key").write_text("x"), "holds no key"),
    ],
)
def test_a_folder_without_keys_is_refused_by_name(tmp_path: Path, spoil, says: str) -> None:
    keygen(tmp_path)
    spoil(tmp_path)
    with pytest.raises(raft.InvalidConfig, match=says) as refusal:
        Keyring(tmp_path)
    assert refusal.value.fields == ("keys",)
