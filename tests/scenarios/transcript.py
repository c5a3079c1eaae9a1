"""A small command language that drives a cluster of cores, and tells every step as readable lines.

Commands, one a line (names of peers are s1, s2, ...)::

    peers 5                     a cluster of five instead of three (first command only, like the next)
    settings lease_reads=true ...  settings of all peers
    form s1 s2 s3               the first forms a cluster of all, and leads it; `request` only asks it to
    write s1 x y                commands that arrive together; read s2; lease s1 (a lease read)
    stop s1                     a graceful stop
    transfer s1 s2              a caller wants s2 to lead; without s2: anybody else; `within s1 0.2 s2`: in that time
    priority s3 5               of s3, which starts anew with it
    snapshot s1                 a caller wants one; `slow s1`: from now on what s1 captures is written by `written s1`
    tick s1                     the clock reaches the next deadline of s1, which alone is woken
    wait 0.3                    the clock goes on, and nobody is woken
    pass 0.3                    0.3 seconds pass, everybody is woken in time and everything is delivered
    dice s1 0.9                 what s1 draws from now on
    deliver                     deliver and sync until nothing moves; `deliver s1->s2`: one message of that link
    lose s1->s2                 what is under way on that link is lost
    cut s1->s2                  that link is cut; `cut s1`: every link of s1; `heal`: all links work
    hold s2                     the disk of s2 does nothing until `sync s2` (once) or `release s2`
    crash s3                    silently; `die s3`: the others are told; `restart s3`
    show                        a line for every peer

A line may be a ``# remark``; ``quietly`` before a command leaves out what happens. Messages are told where they are
sent, with ``after sync`` if they wait for a disk; a position is TERM.INDEX, a ballot TERM/VOTE.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol import effects as fx
from raft_actors.protocol import messages as ms
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import (
    Applied,
    ClusterRequested,
    EntriesLoaded,
    Event,
    PeerDown,
    Persisted,
    ReadsRequested,
    Received,
    SnapshotRequested,
    StopRequested,
    Tick,
    TransferRequested,
    WritesRequested,
)
from raft_actors.protocol.state import Candidate, Leader, PeerState, PreCandidate
from raft_actors.protocol.types import Ballot, Settings
from tests.behaviours.cluster import Cluster
from tests.scenarios.words import position, snapshot_effect, snapshot_event


class Transcript:
    """Runs commands against a cluster and collects what happens."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._cluster: Cluster | None = None
        self._size = 3
        self._settings = Settings()
        self._token = 0

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            names = tuple(f"s{number}" for number in range(1, self._size + 1))
            self._cluster = Cluster(names, self._settings)
            self._cluster.watch(self._on_event, self._on_step)
        return self._cluster

    def run(self, commands: str) -> str:
        """The transcript of several commands.

        Raises:
            ValueError: an unknown command.
        """
        self.lines = []
        for command in commands.splitlines():
            if not command.startswith("#"):
                self._command(command.split())
        return "\n".join(self.lines)

    def _command(self, words: list[str]) -> None:
        if words[0] == "quietly":
            before = len(self.lines)
            self._command(words[1:])
            del self.lines[before:]
            return
        command = getattr(self, f"do_{words[0]}", None)
        if command is None:
            raise ValueError(f"unknown command {words[0]!r}")
        command(*words[1:])

    # -- commands ------------------------------------------------------------------------------------------------------

    def do_peers(self, count: str) -> None:
        self._size = int(count)

    def do_settings(self, *pairs: str) -> None:
        changes = dict(pair.split("=") for pair in pairs)
        self._settings = Settings(**{name: json.loads(value) for name, value in changes.items()})

    def do_form(self, *names: str) -> None:
        self.cluster.run(names[0], ClusterRequested(self._new_token(), "c1", names, 5.0))
        self.cluster.settle()

    def do_request(self, *names: str) -> None:
        self.cluster.run(names[0], ClusterRequested(self._new_token(), f"of {names[0]}", names, 5.0))

    def do_write(self, name: str, *commands: str) -> None:
        self.cluster.run(name, WritesRequested(self._new_token(), tuple(one.encode() for one in commands)))

    def do_read(self, name: str) -> None:
        self.cluster.run(name, ReadsRequested(self._new_token()))

    def do_lease(self, name: str) -> None:
        self.cluster.run(name, ReadsRequested(self._new_token(), lease=True))

    def do_stop(self, name: str) -> None:
        self.cluster.run(name, StopRequested(1.0))

    def do_transfer(self, name: str, target: str | None = None) -> None:
        self.do_within(name, "5", target)

    def do_within(self, name: str, seconds: str, target: str | None = None) -> None:
        self.cluster.run(name, TransferRequested(self._new_token(), target, float(seconds)))

    def do_priority(self, name: str, value: str) -> None:
        self.cluster.priorities[name] = int(value)
        self.cluster.crash(name)
        self.cluster.restart(name)

    def do_snapshot(self, name: str) -> None:
        self.cluster.run(name, SnapshotRequested(self._new_token()))

    def do_slow(self, name: str) -> None:
        self.cluster.nodes[name].files.slow = True

    def do_written(self, name: str) -> None:
        self.cluster.write_snapshot(name)

    def do_tick(self, name: str) -> None:
        self.cluster.tick(name)

    def do_wait(self, seconds: str) -> None:
        self.cluster.now += float(seconds)

    def do_pass(self, seconds: str) -> None:
        cluster = self.cluster
        end = cluster.now + float(seconds)
        while True:
            cluster.settle()
            alive = [node.state for node in cluster.nodes.values() if node.state is not None]
            first = min(alive, key=next_deadline)
            if next_deadline(first) > end:
                break
            cluster.tick(first.name)
        cluster.now = end

    def do_dice(self, name: str, value: str) -> None:
        self.cluster.nodes[name].dice = float(value)

    def do_deliver(self, link: str = "") -> None:
        if not link:
            self.cluster.settle()
        elif not self.cluster.deliver_next(*link.split("->")):
            self.lines.append(f"nothing is under way on {link}")

    def do_lose(self, link: str) -> None:
        source, target = link.split("->")
        network = self.cluster.network
        kept = [packet for packet in network if packet[:2] != (source, target)]
        self.lines.append(f"lost: {len(network) - len(kept)}")
        network.clear()
        network.extend(kept)

    def do_cut(self, link: str) -> None:
        source, _, target = link.partition("->")
        others = [target] if target else [name for name in self.cluster.nodes if name != source]
        for other in others:
            self.cluster.cut.add((source, other))
            if not target:
                self.cluster.cut.add((other, source))

    def do_heal(self) -> None:
        self.cluster.cut.clear()

    def do_hold(self, name: str) -> None:
        self.cluster.nodes[name].held = True

    def do_sync(self, name: str) -> None:
        self.cluster.sync(name)

    def do_release(self, name: str) -> None:
        self.cluster.nodes[name].held = False

    def do_crash(self, name: str) -> None:
        self.cluster.crash(name)

    def do_die(self, name: str) -> None:
        self.cluster.crash(name)
        self.cluster.down(name)

    def do_restart(self, name: str) -> None:
        self.cluster.restart(name)

    def do_show(self) -> None:
        for name, node in self.cluster.nodes.items():
            down = f"{name} is down, on disk {position(node.disk.last)}, ballot {_ballot(node.disk.ballot)}"
            self.lines.append(_shown(node.state) if node.state else down)

    def _new_token(self) -> int:
        self._token += 1
        return self._token

    # -- what happens --------------------------------------------------------------------------------------------------

    def _on_event(self, name: str, event: Event) -> None:
        told = _event(event)
        if told:
            self.lines.append(f"{self.cluster.now - 100:5.3f} {name} {told}")

    def _on_step(self, before: PeerState, after: PeerState, effects: tuple[fx.Effect, ...]) -> None:
        tell = self.lines.append
        if type(after.role) is not type(before.role) or after.term != before.term:
            tell(f"        is {_role(after)} of term {after.term}")
        if after.leader != before.leader and after.leader not in (None, after.name):
            tell(f"        follows {after.leader}")
        waits = False
        for effect in effects:
            waits = waits or isinstance(effect, fx.Persist)
            tell(f"        {'after sync ' if waits and isinstance(effect, fx.Send) else ''}{_effect(effect)}")
        if after.commit_index > before.commit_index:
            tell(f"        committed up to {after.commit_index}")


def _shown(state: PeerState) -> str:
    log = " ".join(position(state.log.position_at(index)) for index in range(state.log.first, state.log.last.index + 1))
    log = f"after {position(state.log.previous)}: {log or 'nothing'}" if state.log.previous.index else log
    return (
        f"{state.name} {_role(state)}, ballot {_ballot(state.ballot)}, leader {state.leader or 'unknown'}, "
        f"committed {state.commit_index}, log {log}"
    )


def _role(state: PeerState) -> str:
    match state.role:
        case Leader():
            return "leader"
        case Candidate():
            return "candidate"
        case PreCandidate():
            return "pre-candidate"
        case _:
            return "follower"


def _ballot(ballot: Ballot) -> str:
    return f"{ballot.term}/{ballot.voted_for or '-'}"


def _entry(entry: Entry) -> str:
    what = entry.data.decode() if entry.kind is EntryKind.COMMAND else entry.kind.name.lower()
    return f"{entry.term}.{entry.index} {what}"


def _entries(entries: tuple[Entry, ...]) -> str:
    return ", ".join(map(_entry, entries))


def _event(event: Event) -> str:
    match event:
        case Received(message=message):
            return f"<- {message.sender} {type(message).__name__}"
        case Tick():
            return "wakes"
        case Persisted():
            return f"synced to {position(event.last)}, ballot {_ballot(event.ballot)}"
        case Applied():
            return ""
        case EntriesLoaded():
            return f"has read {_entries(event.entries)}"
        case WritesRequested():
            return f"is asked to write {', '.join(one.decode() for one in event.commands)} (request {event.token})"
        case ReadsRequested():
            return f"is asked to read (request {event.token})"
        case PeerDown():
            return f"learns that {event.name} died"
        case ClusterRequested():
            return f"is asked to form {' '.join(event.names)} (request {event.token})"
        case StopRequested():
            return "is asked to stop"
        case TransferRequested():
            return f"is asked to let {event.target or 'anybody else'} lead (request {event.token})"
        case _:
            return snapshot_event(event)


def _effect(effect: fx.Effect) -> str:
    match effect:
        case fx.Send():
            return f"-> {effect.to} {_message(effect.message)}"
        case fx.Persist():
            return _persist(effect)
        case fx.Apply():
            return f"apply {_entries(effect.entries)}"
        case fx.Load():
            return f"read {effect.first}..{effect.last} from the store for {effect.reader or 'the machine'}"
        case fx.Accept():
            return f"request {effect.token} is in the log from {effect.term}.{effect.first}"
        case fx.Reject():
            return f"request {effect.token} is turned away: {effect.refusal.value}"
        case fx.ServeReads():
            return f"request {effect.token} reads at {effect.index}"
        case fx.ClusterFormed():
            return f"request {effect.token}: the cluster is formed"
        case fx.ClusterRefused():
            return f"request {effect.token} is refused: {effect.refusal.value} ({effect.peer})"
        case fx.Discard():
            return f"discard a message of {effect.sender}: {effect.reason}"
        case fx.ReadyToStop():
            return "ready to stop"
        case fx.TransferAnswer():
            ended = f"failed: {effect.refusal.value}" if effect.refusal else "is done"
            return f"request {effect.token} {ended}; {effect.leader or 'nobody known'} leads"
        case _:
            return snapshot_effect(effect)


def _persist(batch: fx.Persist) -> str:
    parts = [
        f"cluster {batch.cluster}" if batch.cluster else "",
        f"ballot {_ballot(batch.ballot)}" if batch.ballot else "",
        f"snapshot {batch.snapshot.id}" if batch.snapshot else "",
        f"cut from {batch.truncate_from}" if batch.truncate_from else "",
        _entries(batch.entries),
    ]
    return f"to disk: {'; '.join(part for part in parts if part) or 'nothing new'}"


_TOLD: dict[type, Callable[[Any], str]] = {
    ms.PreVote: lambda m: f"last {position(m.last)}",
    ms.PreVoteReply: lambda m: "yes" if m.granted else "no",
    ms.RequestVote: lambda m: f"last {position(m.last)}{' (handed over)' if m.transfer else ''}",
    ms.RequestVoteReply: lambda m: "yes" if m.granted else "no",
    ms.AppendEntries: lambda m: (
        f"after {position(m.previous)}: {_entries(m.entries) or 'nothing'}; commit {m.commit_index}"
        f"{f', round {m.round}' if m.round else ''}"
    ),
    ms.AppendEntriesReply: lambda m: (
        f"{f'match {m.match_index}' if m.success else f'no, perhaps {position(m.hint)}'}"
        f"{f', round {m.round}' if m.round else ''}{f', wants {m.wants}' if m.wants else ''}"
    ),
    ms.InstallSnapshot: lambda m: f"{m.id} from {m.offset}: {len(m.data)} of {m.size} bytes",
    ms.InstallSnapshotReply: lambda m: f"up to {m.received}{f', match {m.match_index}' if m.match_index else ''}",
    ms.ReadIndexReply: lambda m: f"{m.index}",
    ms.FormCluster: lambda m: f"{m.proposal}{'' if m.until > 0 else ' withdrawn'}",
    ms.FormClusterReply: lambda m: m.refusal or "free",
}


def _message(message: ms.Message) -> str:
    told = _TOLD.get(type(message), lambda m: "")(message)
    return f"{type(message).__name__} term {message.term}{f' {told}' if told else ''}"
