"""Who stands in vain waits longer each time: how much, what ends it, and that nobody waits for those who wait."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from raft_actors.behaviours import patience
from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.protocol import messages as ms
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import Persist, Send
from raft_actors.protocol.events import PeerDown, Persisted, Received, Slept, Tick
from raft_actors.protocol.state import Candidate, Follower, Leader, PeerState, PreCandidate
from raft_actors.protocol.types import LogPosition, Settings
from tests.behaviours import bench
from tests.behaviours.bench import NOW, at, pre_vote, pre_vote_reply, request_vote, sent, synced, take, timed_out, vote

TIRED = 9
"""Rounds in vain after which a peer waits as long as it ever does."""
LONGEST_WAIT = 4 * Settings().max_election_timeout


def waiting(name: str = "s1", **more: Any) -> PeerState:
    """A follower that has stood in vain so often, and waits to do it again."""
    return bench.peer(name, role=Follower(NOW + 1.8, in_vain=TIRED), **more)


def tired(state: PeerState) -> PeerState:
    """``state``, had it stood in vain so often."""
    assert not isinstance(state.role, Leader)
    return replace(state, role=replace(state.role, in_vain=TIRED))


def in_vain(state: PeerState) -> int:
    return state.role.in_vain


def waits(state: PeerState, rounds: int, *answers: ms.Message) -> list[int]:
    """Milliseconds from each of so many rounds to the next, if each is answered so, at once."""
    found = []
    for _ in range(rounds):
        now = next_deadline(state)
        for event in (Tick(), *map(Received, answers)):
            state = take(state, event, at(now)).state
        found.append(round(1000 * (next_deadline(state) - now)))
    return found


class Nodes:
    """Peers whose messages all take ``delay`` seconds, and whose disks take no time; ``seed`` is for their dice."""

    def __init__(self, states: Iterable[PeerState], delay: float, seed: int = 1) -> None:
        self.now = NOW
        self.states = {state.name: state for state in states}
        self.rounds = 0
        self._delay, self._dice, self._order = delay, random.Random(seed), itertools.count()
        self._under_way: list[tuple[float, int, str, ms.Message]] = []

    def elect(self, until: float) -> bool:
        """Whether there is a leader before ``until``."""
        while not any(isinstance(one.role, Leader) for one in self.states.values()):
            due, name = min((next_deadline(one), name) for name, one in self.states.items())
            arrives = self._under_way[0][0] if self._under_way else until
            self.now = min(due, arrives)
            if self.now >= until:
                return False
            if arrives <= due:
                _, _, name, message = heapq.heappop(self._under_way)
                self._step(name, Received(message))
            else:
                self._step(name, Tick())
        return True

    def _step(self, name: str, event: Received | Tick | Persisted) -> None:
        state, effects = take(self.states[name], event, at(self.now, self._dice.random()))
        self.states[name] = state
        self.rounds += bool(sent(effects, ms.PreVote))
        for effect in effects:
            if isinstance(effect, Send) and effect.to in self.states:
                letter = (self.now + self._delay, next(self._order), effect.to, effect.message)
                heapq.heappush(self._under_way, letter)
        if bench.of_type(effects, Persist):
            self._step(name, Persisted(state.ballot, state.log.last))


# -- how long ----------------------------------------------------------------------------------------------------------


def test_who_is_refused_asks_twice_as_soon_as_ever_and_then_less_and_less_often() -> None:
    no = [pre_vote_reply(voter, 1, granted=False) for voter in ("s2", "s3")]
    assert waits(bench.peer(), 9, *no) == [50, 50, 100, 200, 400, 800, 1600, 1800, 1800]


def test_who_is_not_answered_begins_anew_less_and_less_often() -> None:
    assert waits(bench.peer(), 6) == [450, 450, 900, 1800, 1800, 1800]


def test_a_candidate_that_is_not_answered_waits_as_long() -> None:
    settings = Settings(pre_vote=False)
    state, found = bench.peer(settings=settings), []
    for _ in range(5):
        state = synced(timed_out(state).state, at(now := next_deadline(state))).state
        assert isinstance(state.role, Candidate)
        found.append(round(1000 * (next_deadline(state) - now)))
    assert found == [450, 450, 900, 1800, 1800]


def test_a_learner_that_hears_nobody_asks_less_and_less_often_whether_it_is_a_member() -> None:
    members = Configuration(voters=bench.configuration("s2", "s3").voters, learners=bench.configuration("s1").voters)
    learner = bench.peer(members=members)
    assert waits(learner, 6) == [450, 450, 900, 1800, 1800, 1800]
    nodes = Nodes([learner], 0.001)
    assert not nodes.elect(NOW + 60)
    assert 60 / LONGEST_WAIT < nodes.rounds < 60


def test_a_candidate_that_is_refused_waits_as_long_as_a_pre_candidate() -> None:
    state = tired(bench.candidate())
    state = replace(state, role=replace(state.role, election_deadline=NOW + 9))
    for voter in ("s2", "s3"):
        state = take(state, vote(voter, 2, granted=False)).state
    assert next_deadline(state) == pytest.approx(NOW + 1.8)


@pytest.mark.parametrize("in_vain", [0, 2, 3, 9, 1_000_000])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_no_wait_is_longer_than_four_election_timeouts(in_vain: int, jitter: float) -> None:
    for heartbeat in (0.0001, 0.05, 0.2):
        settings, moment = Settings(heartbeat_interval=heartbeat), at(NOW, jitter)
        assert 0 < patience.pause(settings, moment, in_vain) <= LONGEST_WAIT
        assert 0.3 <= patience.timeout(settings, moment, in_vain) <= LONGEST_WAIT


def test_long_waits_are_random_too() -> None:
    for wait in (patience.pause, patience.timeout):
        assert 1.2 <= wait(Settings(), at(NOW, 0.0), TIRED) < wait(Settings(), at(NOW, 0.9), TIRED)


# -- what ends it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        bench.append("s2", 2, LogPosition(1, 1)),
        bench.append("s2", 2, LogPosition(9, 9)),
        bench.piece("s2", 2, LogPosition(2, 9)),
    ],
    ids=["entries", "entries that do not fit", "a snapshot"],
)
@pytest.mark.parametrize(
    "state", [waiting(), tired(bench.pre_candidate()), tired(bench.candidate())], ids=["F", "P", "C"]
)
def test_a_word_of_a_leader_ends_it(state: PeerState, word: ms.Message) -> None:
    after = take(state, word).state
    assert (after.leader, after.role) == ("s2", Follower(NOW + 0.45))


def test_a_victory_ends_it() -> None:
    state = take(tired(bench.candidate()), vote("s2", 2)).state
    assert isinstance(state.role, Leader)
    after = take(state, vote("s3", 3, granted=False)).state
    assert (after.leader, after.role) == (None, Follower(NOW + 0.45)), "it waits no longer than any other"


def test_what_elections_in_vain_consist_of_does_not_end_it() -> None:
    granted, refused, newer = (
        pre_vote_reply("s2", 2, granted=True),
        pre_vote_reply("s2", 1, granted=False),
        vote("s2", 7, granted=False),
    )
    assert in_vain(take(tired(bench.pre_candidate()), granted).state) == TIRED
    assert in_vain(take(tired(bench.pre_candidate()), refused).state) == TIRED
    assert in_vain(take(tired(bench.candidate()), newer).state) == TIRED
    assert in_vain(timed_out(tired(bench.candidate())).state) == TIRED + 1


def test_who_votes_waits_for_the_candidate_as_long_as_it_would_for_votes() -> None:
    for state in (waiting(), tired(bench.pre_candidate())):
        after = take(state, request_vote("s2", 2)).state
        assert after.ballot.voted_for == "s2"
        assert after.role == Follower(NOW + 1.8, in_vain=TIRED)


def test_the_death_of_the_candidate_that_got_its_vote_makes_it_stand_but_does_not_end_it() -> None:
    state = take(waiting(), request_vote("s2", 2)).state
    assert take(state, PeerDown("s2")).state.role == Follower(NOW + 0.01, in_vain=TIRED)


def test_a_sleep_does_not_end_it() -> None:
    """A peer of a node that is too busy seems to sleep."""
    after = take(tired(bench.pre_candidate()), Slept()).state
    assert after.role == Follower(NOW + 1.8, forgiven=True, in_vain=TIRED)


# -- nobody waits for who waits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (waiting(terms=(1, 1)), pre_vote("s2", 2)),
        (tired(bench.pre_candidate(terms=(1, 1))), pre_vote("s2", 2)),
        (tired(bench.pre_candidate()), pre_vote("s2", 2)),
        (waiting(terms=(1, 1)), request_vote("s2", 2)),
    ],
    ids=[
        "a longer log",
        "asking, with a longer log",
        "asking, with the better name",
        "a longer log, without pre-votes",
    ],
)
def test_who_waits_and_refuses_a_voter_stands_soon(state: PeerState, asked: ms.Message) -> None:
    after = take(replace(state, role=replace(state.role, election_deadline=NOW + 1.8)), asked).state
    assert next_deadline(after) == pytest.approx(NOW + 0.05)
    assert in_vain(after) == TIRED, "if that is in vain, too, it goes on waiting"


def test_it_does_not_if_it_was_to_stand_sooner_or_waits_no_longer_than_at_first() -> None:
    for role in (Follower(NOW + 0.01, in_vain=TIRED), Follower(NOW + 0.4, in_vain=2)):
        state = bench.peer(terms=(1, 1), role=role)
        assert take(state, pre_vote("s2", 2)).state == state


def test_nor_for_a_learner_which_could_not_vote_for_it() -> None:
    members = Configuration(voters=bench.THREE.voters, learners=bench.configuration("s4").voters)
    state = waiting(terms=(1, 1), members=members)
    assert take(state, pre_vote("s4", 2)).state == state


def test_nor_does_a_learner_whose_log_is_longer() -> None:
    members = Configuration(voters=bench.configuration("s2", "s3").voters, learners=bench.configuration("s1").voters)
    state = waiting(terms=(1, 1), members=members)
    assert take(state, pre_vote("s2", 2)).state == state


def test_nobody_stands_before_a_promise_is_over() -> None:
    state = waiting(terms=(1, 1), no_vote_until=NOW + 0.3)
    assert next_deadline(take(state, pre_vote("s2", 2)).state) == NOW + 0.3


def test_a_pre_candidate_that_learns_of_a_newer_term_asks_soon_in_that_term() -> None:
    for asked in (tired(bench.pre_candidate()), bench.pre_candidate()):
        count = in_vain(asked)
        after = take(asked, pre_vote_reply("s2", 5, granted=False)).state
        assert (after.term, after.role) == (5, Follower(NOW + 0.05, in_vain=count))
        assert take(after, pre_vote_reply("s3", 5, granted=False)).state == after, "once for a term"


def test_nor_later_than_it_would_have_without_nor_before_a_promise_is_over() -> None:
    state = bench.pre_candidate()
    for deadline, promise, expected in ((0.01, 0.0, 0.01), (0.45, 0.3, 0.3)):
        role = replace(state.role, election_deadline=NOW + deadline)
        asked = replace(state, role=role, no_vote_until=NOW + promise)
        assert next_deadline(take(asked, pre_vote_reply("s2", 5, granted=False)).state) == NOW + expected


def test_nor_does_a_vote_that_is_promised_to_nobody_change_anything() -> None:
    state = waiting()
    after, effects = take(state, pre_vote("s2", 2))
    assert bench.only(effects, ms.PreVoteReply).granted
    assert after == state


def test_one_with_a_longer_log_that_was_alone_for_long_is_elected_soon_after_another_one_is_up() -> None:
    alone = Nodes([bench.peer("s3", terms=(1, 1))], 0.001)
    assert not alone.elect(NOW + 60)
    assert in_vain(alone.states["s3"]) > TIRED
    both = Nodes([alone.states["s3"], bench.peer("s1", role=Follower(NOW + 60.3))], 0.001)
    assert both.elect(NOW + 60.5)
    assert isinstance(both.states["s3"].role, Leader)


def test_the_shorter_log_of_a_newer_term_makes_nobody_wait_twice() -> None:
    """Of three, one is dead, and the others were cut off from each other for a minute."""

    def elected(seed: int) -> bool:
        longer = Nodes([bench.peer("s1", terms=(1, 1))], 0.001, seed)
        shorter = Nodes([bench.peer("s2", term=5)], 0.001, 1000 + seed)
        assert not longer.elect(NOW + 60)
        assert not shorter.elect(NOW + 60)
        both = Nodes([longer.states["s1"], shorter.states["s2"]], 0.001, seed)
        return both.elect(NOW + 60 + LONGEST_WAIT + 0.3)

    assert [seed for seed in range(40) if not elected(seed)] == []


def test_a_candidate_that_has_asked_a_dead_voter_is_elected_soon_after_it_is_up_again() -> None:
    asked = tired(bench.candidate("s1", terms=(1, 1)))
    asked = replace(asked, role=replace(asked.role, election_deadline=NOW + 1.8))
    again = bench.peer("s2", role=Follower(NOW + 0.3))
    both = Nodes([asked, again], 0.001)
    assert both.elect(NOW + 0.5)
    assert isinstance(both.states["s1"].role, Leader)


def test_one_that_cannot_be_elected_keeps_nobody_from_it() -> None:
    shorter = waiting("s1")
    longer = bench.peer("s2", terms=(1, 1), role=Follower(NOW + 0.3))
    assert Nodes([shorter, longer], 0.001).elect(NOW + 0.4)


# -- what it is for ----------------------------------------------------------------------------------------------------


def test_nodes_that_answer_later_than_in_an_election_timeout_elect_a_leader_all_the_same() -> None:
    nodes = Nodes([bench.peer(name, role=Follower(NOW + 0.3)) for name in ("s1", "s2", "s3")], delay=0.35)
    assert nodes.elect(NOW + 30)


def test_they_do_so_too_where_logs_differ() -> None:
    """Else a candidate threw its votes away whenever it refused a shorter log: five had no leader after minutes."""
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")

    def elected(seed: int) -> bool:
        logs = ((1,), (1, 1), (1,), (1, 1), (1,))
        deadlines = (NOW + 0.3 + 0.06 * place for place in range(5))
        peers = [
            bench.peer(member.name, members=five, terms=terms, role=Follower(deadline))
            for member, terms, deadline in zip(five.voters, logs, deadlines, strict=True)
        ]
        return Nodes(peers, 0.9, seed).elect(NOW + 30)

    assert [seed for seed in range(12) if not elected(seed)] == []


def test_peers_that_cannot_be_elected_ask_a_few_times_in_a_minute() -> None:
    """Two of five, for as long as that lasts."""
    five = bench.configuration("s1", "s2", "s3", "s4", "s5")
    nodes = Nodes([bench.peer(name, members=five) for name in ("s1", "s2")], delay=0.001)
    assert not nodes.elect(NOW + 60)
    assert nodes.rounds < 2 * 60


def test_two_that_collide_do_not_get_slower_by_it() -> None:
    """As after the death of a leader, of which both hear at the same time."""
    nodes = Nodes([bench.peer(name, role=Follower(NOW + 0.01)) for name in ("s1", "s2")], delay=0.001)
    assert nodes.elect(NOW + 0.1)
    assert all(not isinstance(one.role, PreCandidate) for one in nodes.states.values())
