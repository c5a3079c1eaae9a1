"""Defects of elections and of the commit rule (BUG-29 to BUG-36, and figure 2)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours import follower
from raft_actors.behaviours.leader import become_leader
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.configuration import agreed_index
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply
from raft_actors.protocol.state import Follower, Leader
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition
from tests.simulation.defects_a import NO_CHECK_OF_OUR_OWN, NO_CHECK_OF_THE_STORE, STEP
from tests.simulation.hunting import defect

CANDIDATE = "raft_actors.behaviours.candidate"
FOLLOWER = "raft_actors.behaviours.follower"
LEADER = "raft_actors.behaviours.leader"
REPLICATION = "raft_actors.behaviours.replication"
VOTING = "raft_actors.behaviours.voting"
BEYOND = LogPosition(1 << 40, 1 << 40)

# -- elections ---------------------------------------------------------------------------------------------------------


@defect("section 5.4.1", f"{VOTING}:grant_vote")  # it shows where nobody asks for pre-votes, which are compared rightly
def the_longer_log_wins(honest: Any) -> Any:
    """Term and index change places in the comparison of logs."""

    def grant_vote(state: Any, request: Any, moment: Any) -> Any:
        ours, theirs = state.log.last, request.last
        longer = (theirs.index, theirs.term) >= (ours.index, ours.term)
        return honest(state, replace(request, last=BEYOND if longer else NOWHERE), moment)

    return grant_vote


@defect("section 5.4.1", f"{VOTING}:grant_vote")
def any_log_wins(honest: Any) -> Any:
    """A voter does not look at the candidate's log."""
    return lambda state, request, moment: honest(state, replace(request, last=BEYOND), moment)


@defect("BUG-09, BUG-11", f"{VOTING}:grant_vote", also=NO_CHECK_OF_THE_STORE)
def a_peer_votes_twice_in_a_term(honest: Any) -> Any:
    """Whoever asks gets the vote, also the second one in a term."""

    def grant_vote(state: Any, request: Any, moment: Any) -> Any:
        after, effects = honest(replace(state, ballot=Ballot(state.term, None)), request, moment)
        return Transition(after if after.ballot.voted_for else replace(after, ballot=state.ballot), effects)

    return grant_vote


@defect("section 5.2", f"{CANDIDATE}:_counted", peers=5)
def votes_are_counted_and_not_collected(honest: Any) -> Any:
    """The same vote, arriving twice, is two votes."""
    counts: dict[tuple[str, int], int] = {}

    def _counted(state: Any, role: Any, voter: str, moment: Any) -> Any:
        key = state.name, state.term
        counts[key] = counts.get(key, 0) + 1
        return won_by_count(state, role, voter, moment, counts[key])

    return _counted


@defect("section 5.2", f"{CANDIDATE}:_counted")
def votes_of_an_older_term_count(honest: Any) -> Any:
    """The count is not reset with the term."""
    counts: dict[str, int] = {}

    def _counted(state: Any, role: Any, voter: str, moment: Any) -> Any:
        counts[state.name] = counts.get(state.name, 0) + 1
        return won_by_count(state, role, voter, moment, counts[state.name])

    return _counted


def won_by_count(state: Any, role: Any, voter: str, moment: Any, count: int) -> Any:
    """Lead if ``count`` is a majority."""
    role = replace(role, votes=role.votes | {voter})
    state = replace(state, role=role)
    if state.name in role.votes and 2 * count > len(state.configuration.voters):
        return become_leader(state, moment)
    return Transition(state)


@defect("BUG-68", f"{CANDIDATE}:has_quorum", peers=4)
def half_of_the_peers_elect_a_leader(honest: Any) -> Any:
    """In an even cluster half of the votes are taken for a majority."""

    def has_quorum(configuration: Any, names: Any) -> bool:
        halves = configuration.halves
        return bool(halves) and all(2 * sum(name in names for name in half) >= len(half) for half in halves)

    return has_quorum


@defect("BUG-68", "raft_actors.protocol.configuration:agreed_index", peers=4)
def half_of_the_peers_commit(honest: Any) -> Any:
    """In an even cluster what half of the peers have is taken for committed."""

    def agreed_index(configuration: Any, match: Any) -> int:
        found = [sorted((match.get(one, 0) for one in half), reverse=True) for half in configuration.halves]
        return min((indexes[(len(indexes) - 1) // 2] for indexes in found), default=0)

    return agreed_index


@defect("BUG-32", "raft_actors.behaviours.transition:become_follower")
def a_deposed_leader_goes_on_in_the_new_term(honest: Any) -> Any:
    """The result of stepping down is dropped, but for the term."""

    def become_follower(state: Any, moment: Any, *, term: int | None = None, leader: str | None = None) -> Any:
        if isinstance(state.role, Leader) and term is not None:
            return Transition(replace(state, ballot=Ballot(term, None)))
        return honest(state, moment, term=term, leader=leader)

    return become_follower


@defect("BUG-32", "raft_actors.behaviours.transition:become_follower")
def a_vote_is_kept_for_the_next_terms(honest: Any) -> Any:
    """A newer term does not set the vote free: in the end everybody has voted for itself for ever."""

    def become_follower(state: Any, moment: Any, **known: Any) -> Any:
        after, effects = honest(state, moment, **known)
        return Transition(replace(after, ballot=Ballot(after.term, state.ballot.voted_for)), effects)

    return become_follower


@defect("BUG-33", REPLICATION + ":_news_told")
def heartbeats_come_more_rarely_than_elections(honest: Any) -> Any:
    """The heartbeat interval is a constant beside its setting, and longer than election timeouts."""

    def _news_told(state: Any, role: Any, moment: Any) -> Any:
        return replace(honest(state, role, moment), heartbeat_deadline=moment.now + 1.0)

    return _news_told


# -- commit rule -------------------------------------------------------------------------------------------------------


@defect("BUG-29", f"{LEADER}:become_leader")
def whoever_is_elected_has_committed_everything(honest: Any) -> Any:
    """A new leader takes its log for committed."""

    def become_leader(state: Any, moment: Any) -> Transition:
        return Transition(*honest(replace(state, commit_index=state.log.last.index), moment))

    return become_leader


@defect("BUG-29, BUG-34", f"{LEADER}:become_leader")
def a_new_leader_takes_everybody_for_up_to_date(honest: Any) -> Any:
    """Followers are believed to have what their new leader has."""

    def become_leader(state: Any, moment: Any) -> Transition:
        last = state.log.last.index
        after, effects = honest(state, moment)
        progress = {name: replace(one, match_index=last) for name, one in after.role.progress.items()}
        return Transition(replace(after, role=replace(after.role, progress=progress)), effects)

    return become_leader


@defect("BUG-31", f"{LEADER}:_advance_commit")
def copies_of_an_old_entry_commit_it(honest: Any) -> Any:
    """What a quorum has is committed, whatever its term is."""

    def _advance_commit(state: Any, role: Any, moment: Any) -> Any:
        match = {name: progress.match_index for name, progress in role.progress.items()}
        index = agreed_index(state.configuration, {**match, state.name: state.log.durable})
        return replace(state, commit_index=max(state.commit_index, index))

    return _advance_commit


@defect("BUG-34", f"{FOLLOWER}:_accept")
def a_success_claims_the_whole_log(honest: Any) -> Any:
    """A follower acknowledges up to its own last index instead of up to what matched."""
    return lambda state, message, match: honest(state, message, state.log.durable if match else 0)


def cut_without_a_look(state: Any, index: int, leader: str) -> Any:
    """Cut the log, whatever is committed."""
    return replace(state, log=state.log.truncate(index))


@defect(
    "BUG-35",
    f"{STEP}:_answer",
    also={f"{FOLLOWER}:_truncate": lambda honest: cut_without_a_look, **NO_CHECK_OF_OUR_OWN},
)
def entries_of_an_older_term_are_taken(honest: Any) -> Any:
    """A follower writes down what a leader sends that was deposed; it answers nothing that would confirm a read."""

    def _answer(state: Any, message: Any, moment: Any) -> Any:
        late = type(message) is AppendEntries and message.entries and message.term < state.term
        if not late or not isinstance(state.role, Follower):
            return honest(state, message, moment)
        after, effects = follower.on_append_entries(state, replace(message, term=state.term), moment)
        return Transition(after, tuple(effect for effect in effects if type(effect) is Persist))

    return _answer


@defect("BUG-35", f"{STEP}:receive")
def answers_of_an_older_term_count(honest: Any) -> Any:
    """What was answered to a leader when it led before counts in its new term: it confirms what nobody was asked."""

    def receive(state: Any, message: Any, moment: Any) -> Any:
        late = type(message) is AppendEntriesReply and message.term < state.term
        return honest(state, replace(message, term=state.term) if late else message, moment)

    return receive


@defect("BUG-36", f"{FOLLOWER}:_merge", also=NO_CHECK_OF_OUR_OWN)
def a_shorter_duplicate_cuts_off_the_rest(honest: Any) -> Any:
    """A follower cuts its log after the previous entry, whether the entries differ or not."""

    def _merge(state: Any, message: Any) -> Any:
        first = message.previous.index + 1
        if not message.entries or first > state.log.last.index:
            return honest(state, message)
        log = state.log.truncate(first).append(message.entries)
        return replace(state, log=log), (Persist(truncate_from=first, entries=message.entries),)

    return _merge


@defect("BUG-36", f"{FOLLOWER}:on_append_entries", also=NO_CHECK_OF_OUR_OWN)
def the_commit_index_follows_every_message(honest: Any) -> Any:
    """An old message takes the commit index back."""

    def on_append_entries(state: Any, message: Any, moment: Any) -> Transition:
        after, effects = honest(state, message, moment)
        end = message.previous.index + len(message.entries)
        return Transition(replace(after, commit_index=min(message.commit_index, end)), effects)

    return on_append_entries


@defect("BUG-36, BUG-39", f"{FOLLOWER}:on_append_entries")
def a_follower_commits_what_its_leader_does_not_have(honest: Any) -> Any:
    """The commit index is bounded by the end of the follower's own log, not by what the message showed to match."""

    def on_append_entries(state: Any, message: Any, moment: Any) -> Transition:
        after, effects = honest(state, message, moment)
        commit_index = max(after.commit_index, min(message.commit_index, after.log.last.index))
        return Transition(replace(after, commit_index=commit_index), effects)

    return on_append_entries


@defect("BUG-36", f"{REPLICATION}:note_reply")
def what_a_follower_has_goes_back(honest: Any) -> Any:
    """Replies that overtake each other take the match index back."""

    def note_reply(progress: Any, reply: Any, log_hint: Any, moment: Any) -> Any:
        known = replace(progress, match_index=0) if reply.success else progress
        return honest(known, reply, log_hint, moment)

    return note_reply


@defect("BUG-51", f"{REPLICATION}:_refused")
def a_leader_never_goes_back_to_where_logs_agree(honest: Any) -> Any:
    """A refusal changes nothing: the follower is asked for the same again and again."""
    return lambda progress, reply, log_hint: replace(progress, probing=False)


@defect("BUG-35", f"{FOLLOWER}:_durable_match")
def a_term_that_is_not_on_disk_is_acknowledged(honest: Any) -> Any:
    """A heartbeat is answered with what is durable, although a restart could take the peer back to an older leader."""
    return lambda state, end: min(end, state.log.durable)
