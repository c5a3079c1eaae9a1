"""Defects of persistence: what is on disk when, and what is made of it after a crash (BUG-01 to BUG-21)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours.candidate import _counted
from raft_actors.behaviours.transition import Transition
from raft_actors.errors import StorageFailed
from raft_actors.log_recovery import check_range
from raft_actors.protocol.effects import Persist, Send
from raft_actors.protocol.events import Persisted
from raft_actors.protocol.messages import AppendEntriesReply, RequestVoteReply
from raft_actors.protocol.types import Ballot
from raft_actors.records import DamagedRecord, Survey
from raft_actors.store_meta import ballot_value
from storage_adapters import Batch
from tests.simulation.hunting import Make, defect

STEP = "raft_actors.behaviours.step"
NO_CHECK_OF_OUR_OWN: dict[str, Make] = {f"{STEP}:_check": lambda honest: lambda before, after: None}
"""The rules' own check of themselves would find it, too; here the simulator has to."""
NO_CHECK_OF_THE_STORE: dict[str, Make] = {
    "raft_actors.store_changes:_require_later": lambda honest: lambda ballot, ours, where: None
}
"""The same of the store, which lets no term go back and no vote be given twice."""


@defect("BUG-01", "raft_actors.behaviours.leader:_advance_commit", peers=1)
def a_lone_leader_counts_itself_before_its_sync(honest: Any) -> Any:
    """A leader counts what it has appended as its own, whether its disk has it or not."""

    def _advance_commit(state: Any, role: Any, moment: Any) -> Any:
        eager = replace(state, log=replace(state.log, durable=state.log.last.index))
        return replace(honest(eager, role, moment), log=state.log)

    return _advance_commit


@defect("BUG-01, BUG-02", "raft_actors.protocol.log:Log.append")
def what_is_appended_counts_as_durable(honest: Any) -> Any:
    """Entries count as durable from the moment they are given to the disk."""
    return lambda log, entries: replace(honest(log, entries), durable=entries[-1].index)


@defect("BUG-02, BUG-11, BUG-14", f"{STEP}:seal")
def a_vote_leaves_before_it_is_on_disk(honest: Any) -> Any:
    """A vote for somebody else is sent first and written then."""

    def is_vote(effect: Any) -> bool:
        return type(effect) is Send and type(effect.message) is RequestVoteReply

    def seal(before: Any, after: Any, effects: Any) -> Any:
        return tuple(sorted(honest(before, after, effects), key=is_vote, reverse=True))

    return seal


@defect("BUG-11, BUG-14", "raft_actors.log_writer:Writer._commit")
def acknowledgements_leave_before_the_write(honest: Any) -> Any:
    """Acknowledgements leave when the disk begins with their entries, not when it has them."""

    def is_acknowledgement(send: Send) -> bool:
        return type(send.message) is AppendEntriesReply

    def _commit(self: Any, group: Any) -> None:
        for job in group:
            for send in filter(is_acknowledgement, job.sends):
                self._send(send)
        honest(self, [job._replace(sends=tuple(itertools.filterfalse(is_acknowledgement, job.sends))) for job in group])

    return _commit


@defect("BUG-03", "raft_actors.behaviours.applying:hand_over", also=NO_CHECK_OF_OUR_OWN)
def a_machine_runs_ahead_of_its_disk(honest: Any) -> Any:
    """Committed entries go to the machine before the peer's own disk has them."""

    def hand_over(state: Any) -> Transition:
        eager, effects = honest(replace(state, log=replace(state.log, durable=state.log.last.index)))
        return Transition(replace(eager, log=replace(eager.log, durable=state.log.durable)), effects)

    return hand_over


@defect("BUG-04", "raft_actors.machine_actor:Replica.__init__")
def a_state_outlives_a_restart_and_its_index_does_not(honest: Any) -> Any:
    """The state of a machine survives, and the log is applied to it once more."""
    kept: dict[str, Any] = {}

    def begin(self: Any, machine: Any, name: str, codec: Any) -> None:
        honest(self, machine, name, codec)
        self.state = kept.setdefault(name, self.state)

    return begin


@defect("BUG-08", "raft_actors.store_changes:changed_meta")
def the_first_ballot_is_not_written(honest: Any) -> Any:
    """The first term and vote reach the disk only with the next ones."""

    def changed_meta(change: Any, ballot: Any, identity: Any, where: str) -> Any:
        return honest(replace(change, ballot=None) if ballot == Ballot() else change, ballot, identity, where)

    return changed_meta


@defect("BUG-09", "raft_actors.log_store:LogStore._commit")
def term_and_vote_are_written_apart(honest: Any) -> Any:
    """The vote is written, and then its term: a crash in between leaves a second vote in the term before."""

    def _commit(self: Any, change: Any) -> None:
        if change.ballot is not None and change.ballot.voted_for is not None:
            self._adapter.write(Batch(meta=ballot_value(Ballot(self._ballot.term, change.ballot.voted_for))))
        honest(self, change)

    return _commit


@defect("BUG-10", "raft_actors.log_store:LogStore._commit")
def the_old_ballot_is_deleted_first(honest: Any) -> Any:
    """A ballot is replaced by deleting the old one and writing the new one."""

    def _commit(self: Any, change: Any) -> None:
        if change.ballot is not None:
            self._adapter.write(Batch(meta=ballot_value(Ballot())))
        honest(self, change)

    return _commit


@defect(
    "BUG-12",
    "raft_actors.behaviours.recovery:recover",
    also=NO_CHECK_OF_THE_STORE,
)
def terms_begin_anew_after_a_restart(honest: Any) -> Any:
    """A restarted peer begins in term 0 again, with the log that it had."""
    return lambda **known: honest(**known | {"ballot": Ballot()})


@defect("BUG-13", "raft_actors.engine:Engine.__init__", also=NO_CHECK_OF_OUR_OWN)
def the_commit_index_outlives_the_log(honest: Any) -> Any:
    """A commit index is kept over the loss of a disk: its peer takes the snapshot that it needs for an old one."""
    lives: dict[str, Any] = {}

    def begin(self: Any, state: Any, ports: Any, release: Any) -> None:
        before = lives.get(state.name)
        lives[state.name] = self
        kept = state if before is None else replace(state, commit_index=before.state.commit_index)
        honest(self, kept, ports, release)

    return begin


@defect("BUG-16", "raft_actors.behaviours.recovery:recover")
def whatever_is_in_the_log_at_a_start_is_committed(honest: Any) -> Any:
    """A restarted peer takes its whole log for committed."""

    def recover(**known: Any) -> Any:
        state = honest(**known)
        return replace(state, commit_index=state.log.last.index)

    return recover


@defect("BUG-14", f"{STEP}:_ballot_first")
def a_ballot_without_entries_is_never_written(honest: Any) -> Any:
    """A new ballot goes to the disk only if entries go there, too."""

    def _ballot_first(before: Any, after: Any, effects: Any) -> Any:
        sealed = honest(before, after, effects)
        return sealed if any(type(effect) is Persist for effect in effects) else sealed[1:]

    return _ballot_first


@defect("BUG-15", "raft_actors.log_writer:Writer._commit")
def an_error_of_the_disk_is_logged_and_forgotten(honest: Any) -> Any:
    """A write failed: the writer goes on as if it had not."""

    def _commit(self: Any, group: Any) -> None:
        try:
            honest(self, group)
        except StorageFailed:
            for job in group:
                for send in job.sends:
                    self._send(send)
            self._note(group)
            self._report(Persisted(self._ballot, self._last))

    return _commit


@defect("BUG-17", "raft_actors.log_store:LogStore.write")
def a_failed_sync_is_repeated_and_succeeds(honest: Any) -> Any:
    """A sync failed; the second one finds nothing to do and reports success."""

    def write(self: Any, persists: Any, *, note: bool = True) -> None:
        try:
            honest(self, persists, note=note)
        except StorageFailed:
            self._failure = None
            self._adapter._broken = False

    return write


@defect("BUG-18", "raft_actors.log_recovery:survey_log")
def damage_in_mid_log_is_taken_for_a_torn_tail(honest: Any) -> Any:
    """A record with a wrong checksum, and everything behind it, is dropped; the peer goes on with what is left."""

    def survey_log(adapter: Any, meta: Any, mark: Any, where: str) -> Any:
        survey = Survey(meta.base.last, meta.base.chain, meta.base.time)
        try:
            check_range(adapter, survey, adapter.bounds()[1])
        except DamagedRecord as torn:
            return survey, torn
        return survey, None

    return survey_log


@defect("BUG-19, BUG-62", "raft_actors.behaviours.admission:why_refused")
def a_wiped_peer_is_the_member_it_was(honest: Any) -> Any:
    """Nobody looks at incarnations: a peer that lost its disk votes and acknowledges as before."""

    def why_refused(state: Any, message: Any) -> str:
        reason: str = honest(state, message)
        return "" if "incarnation" in reason or reason == "not meant for this store" else reason

    return why_refused


@defect("BUG-20", "raft_actors.protocol.log:Log.truncate")
def terms_of_what_was_cut_off_are_remembered(honest: Any) -> Any:
    """The log is cut, the list of its terms is not."""
    return lambda log, index: replace(honest(log, index), runs=log.runs)


@defect("BUG-21, BUG-54", "raft_actors.store_opening:_recovered")
def a_restarted_peer_takes_itself_for_removed(honest: Any) -> Any:
    """The configuration in the log is not found again at a start."""
    return lambda *found: replace(honest(*found), configurations=())


@defect(
    "BUG-11, BUG-35",
    "raft_actors.log_writer:_transactions",
    peers=5,
    also={"raft_actors.store_changes:merged": lambda _: folded},
)
def a_cut_is_merged_with_what_it_cuts_off(honest: Any) -> Any:
    """One transaction for everything queued: acknowledgements of what was cut off leave after the cut."""

    def _transactions(jobs: Sequence[Any]) -> Iterator[list[Any]]:
        if jobs:
            yield list(jobs)

    return _transactions


def folded(persists: Sequence[Persist]) -> Persist:
    """What all of ``persists`` come to, cuts included."""
    ballot, cluster, cut = None, "", None
    entries: list[Any] = []
    for one in persists:
        if one.truncate_from is not None:
            entries = [entry for entry in entries if entry.index < one.truncate_from]
            if not entries:
                cut = min(cut or one.truncate_from, one.truncate_from)
        ballot, cluster = one.ballot or ballot, one.cluster or cluster
        entries += one.entries
    return Persist(ballot, cut, tuple(entries), cluster)


@defect("BUG-08, BUG-14", "raft_actors.behaviours.candidate:start_election", peers=1)
def a_candidate_counts_itself_before_its_ballot_is_on_disk(honest: Any) -> Any:
    """The vote for itself counts while it is still on its way to the disk."""

    def start_election(state: Any, moment: Any, *, transfer: bool = False) -> Transition:
        state, effects = honest(state, moment, transfer=transfer)
        state, led = _counted(state, state.role, state.name, moment)
        return Transition(state, effects + led)

    return start_election


@defect("BUG-35", f"{STEP}:_persisted")
def a_sync_of_an_older_term_confirms_what_is_there_now(honest: Any) -> Any:
    """Late news of a sync count as news of the present ballot: a candidate has its own vote before its disk has it."""
    return lambda state, event, moment: honest(state, replace(event, ballot=state.ballot), moment)


@defect("BUG-35", "raft_actors.protocol.log:Log.persisted")
def a_sync_confirms_what_took_the_place_of_its_entries(honest: Any) -> Any:
    """An index is durable once any entry of that index was."""

    def persisted(log: Any, position: Any) -> Any:
        index = min(position.index, log.last.index)
        return log if index <= log.durable else replace(log, durable=index)

    return persisted
