"""Defects of snapshots: taking, recording, sending, installing, starting from one (BUG-43 to BUG-54)."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours import installing
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.configuration import NO_CONFIGURATION
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.events import SnapshotWritten
from raft_actors.protocol.log import Log
from raft_actors.protocol.types import NOWHERE
from raft_actors.testing.simulation import FAULTS
from tests.simulation.defects_a import NO_CHECK_OF_OUR_OWN
from tests.simulation.hunting import defect

TAKING = "raft_actors.behaviours.snapshots"
INSTALLING = "raft_actors.behaviours.installing"
STORE = "raft_actors.log_store:LogStore"
KEEPER = "raft_actors.snapshot_keeper:Keeper"
FILES = "raft_actors.snapshot_files"
AT_A_COMPACTION = {"crash", "snapshot"}
"""Faults by which a peer dies while its log is cut."""


# -- taking and recording ----------------------------------------------------------------------------------------------


@defect("shallow copy of mutable values", "raft_actors.state_machine:StateMachine.snapshot")
def an_image_shares_what_changes(honest: Any) -> Any:
    """An image is a shallow copy of the state, and later commands show in it."""
    return lambda self, state: copy.copy(state)


@defect("BUG-54", f"{TAKING}:configuration_at")
def a_snapshot_has_no_configuration(honest: Any) -> Any:
    """Who belongs to the cluster is missing from a snapshot, and from the log behind it."""
    return lambda configurations, index: (0, NO_CONFIGURATION)


@defect("BUG-53", f"{FILES}:SnapshotOutput.commit")
def a_snapshot_is_renamed_before_it_is_synced(honest: Any) -> Any:
    """The file of a snapshot gets its name while the system holds its bytes in memory only."""

    def commit(self: Any) -> Any:
        file = self._file
        self._file = SimpleNamespace(sync=lambda: None, write=file.write, close=file.close)
        return honest(self)

    return commit


@defect("BUG-53", f"{FILES}:_Draft._finish")
def the_name_of_a_snapshot_is_not_synced(honest: Any) -> Any:
    """The folder is not synced after a snapshot got its name."""

    def _finish(self: Any, snapshot: Any) -> Any:
        folder = self._folder
        self._folder = SimpleNamespace(rename=folder.rename, remove=folder.remove, sync=lambda: None)
        return honest(self, snapshot)

    return _finish


@defect("BUG-53", f"{KEEPER}._save")
def the_log_is_cut_before_its_snapshot_is_written(honest: Any) -> Any:
    """A snapshot is reported when it begins to be written."""

    def _save(self: Any, saving: Any) -> None:
        report, told = self._report, []
        self._report = told.append
        honest(self, saving)
        self._report = report
        for event in told:
            if type(event) is SnapshotWritten:
                self._store.snapshots.folder.remove(f"{event.snapshot.id}.snap")
            report(event)

    return _save


@defect("BUG-53, BUG-06", f"{STORE}._record", without=tuple(FAULTS.keys() - AT_A_COMPACTION))
def entries_go_before_their_snapshot_is_recorded(honest: Any) -> Any:
    """The disk drops entries first and records the snapshot that has them then: a crash in between leaves neither."""

    def _record(self: Any, snapshot: Any, base: Any, meta: Any, cut: int | None = None) -> None:
        if cut is None and not meta:
            self._adapter.compact(base.last.index)
        honest(self, snapshot, base, meta, cut)

    return _record


@defect("BUG-50", f"{TAKING}:_cut")
def the_log_is_cut_beyond_its_snapshot(honest: Any) -> Any:
    """One entry more is dropped than the snapshot covers."""
    return lambda state, snapshot, moment: min(snapshot.last.index + 1, state.log.last.index)


@defect("own", f"{TAKING}:answer_callers")
def whoever_wants_a_snapshot_is_forgotten(honest: Any) -> Any:
    """Nobody is told that the snapshot is there."""
    return lambda state: Transition(replace(state, snapshot_callers=()))


@defect("own", f"{TAKING}:answer_callers")
def whoever_wants_a_snapshot_is_told_again_and_again(honest: Any) -> Any:
    """Who was told that the snapshot is there is told so of the next one, too."""
    return lambda state: Transition(state, honest(state)[1])


# -- starting ----------------------------------------------------------------------------------------------------------


@defect("BUG-50", "raft_actors.behaviours.recovery:recover")
def a_restart_forgets_what_its_snapshot_holds(honest: Any) -> Any:
    """A peer that starts from a snapshot applies everything again."""
    return lambda **given: replace(honest(**given), handed=0, last_applied=0)


@defect("BUG-50", "raft_actors.behaviours.recovery:recover")
def a_peer_without_its_state_begins_with_an_empty_one(honest: Any) -> Any:
    """Where the snapshot is lost the machine goes on with the entries after it."""

    def recover(**given: Any) -> Any:
        state = honest(**given)
        first = state.log.previous.index
        return replace(state, handed=first, last_applied=first) if state.handed < first else state

    return recover


@defect("own", f"{STORE}.give_up", without=("member", "bootstrap"))
def a_damaged_snapshot_forbids_all_older_ones(honest: Any) -> Any:
    """A store refuses what is older than its recorded snapshot, also where nobody could load that."""
    return lambda self, snapshot: None


# -- sending -----------------------------------------------------------------------------------------------------------


@defect("BUG-51", "raft_actors.behaviours.sending:advance", peers=5)
def a_log_like_ours_is_taken_for_a_state(honest: Any) -> Any:
    """A follower whose log equals ours is sent no more of a snapshot, whether its machine has a state or not."""

    def advance(state: Any, progress: Any, reply: Any, moment: Any, effects: Any) -> Any:
        match = max(reply.match_index, progress.match_index)
        return honest(state, progress, replace(reply, match_index=match), moment, effects)

    return advance


@defect("own", "raft_actors.behaviours.sending:again")
def a_lost_piece_is_lost_for_good(honest: Any) -> Any:
    """A piece that was not answered is not sent again."""
    return lambda state, role, moment: (role, ())


# -- installing --------------------------------------------------------------------------------------------------------


@defect("BUG-43, BUG-51", f"{INSTALLING}:_install", peers=5)
def an_install_drops_what_follows_it(honest: Any) -> Any:
    """The log begins anew after a snapshot, whatever it had beyond."""

    def _install(state: Any, snapshot: Any, *more: Any) -> Any:
        return honest(replace(state, log=Log(NOWHERE, NOWHERE, durable=state.log.durable)), snapshot, *more)

    return _install


@defect("BUG-44", f"{INSTALLING}:_install", peers=5, also=NO_CHECK_OF_OUR_OWN)
def what_an_install_takes_the_place_of_stays(honest: Any) -> Any:
    """Entries that a snapshot covers, or that conflict with it, stay in the log."""

    def _install(state: Any, *more: Any) -> Any:
        after, effects = honest(state, *more)
        last = max(after.log.last, state.log.last, key=lambda place: place.index)
        return Transition(replace(after, log=replace(after.log, last=last)), effects)

    return _install


@defect("BUG-45", f"{INSTALLING}:_needed", also=NO_CHECK_OF_OUR_OWN)
def a_snapshot_of_what_is_committed_is_installed(honest: Any) -> Any:
    """A snapshot is taken over whether it is ahead of what is committed here or not."""
    return lambda state, index: True


@defect("BUG-51", f"{INSTALLING}:_needed")
def a_snapshot_is_refused_for_ever(honest: Any) -> Any:
    """A follower says of every snapshot that it does not need it."""
    return lambda state, index: False


@defect("BUG-46", f"{INSTALLING}:adopt_if_ready", also=NO_CHECK_OF_OUR_OWN)
def the_machine_goes_on_where_it_was_before_an_install(honest: Any) -> Any:
    """Entries that are in the new state are applied to it once more."""

    def adopt_if_ready(state: Any, effects: Any) -> Any:
        return replace(honest(state, effects), handed=state.handed)

    return adopt_if_ready


@defect("BUG-47", f"{INSTALLING}:adopt_if_ready")
def an_install_counts_as_applied_without_its_state(honest: Any) -> Any:
    """What was handed to the machine is set to the index of a snapshot that it never sees."""
    return lambda state, effects: honest(state, [])


@defect("own", f"{INSTALLING}:adopt_if_ready")
def a_state_is_adopted_before_it_is_loaded(honest: Any) -> Any:
    """The machine is to switch as soon as the store knows of the snapshot."""
    return lambda state, effects: honest(replace(state, restored=True), effects)


@defect("BUG-03", f"{INSTALLING}:adopt_if_ready", also=NO_CHECK_OF_OUR_OWN)
def a_state_is_adopted_before_it_is_recorded(honest: Any) -> Any:
    """The machine switches to a state that the store does not know of yet."""

    def adopt_if_ready(state: Any, effects: Any) -> Any:
        eager = replace(state, log=replace(state.log, durable=state.log.last.index))
        return replace(honest(eager, effects), log=state.log)

    return adopt_if_ready


@defect("BUG-48", f"{INSTALLING}:on_chunk_stored")
def an_install_that_failed_is_acknowledged(honest: Any) -> Any:
    """A follower that could not take over a snapshot, or gave up on it, says that it has it."""

    def on_chunk_stored(state: Any, event: Any) -> Any:
        receiving, leader = state.receiving, state.leader
        given_up = receiving is None or receiving.id != event.id
        if leader is None or not (event.received < 0 or given_up):
            return honest(state, event)
        index = int(event.id.rsplit("-", 1)[1])
        answer = installing._reply(state, leader, event.id, 0, received=0, match=index)
        return Transition(state if given_up else replace(state, receiving=None), (answer,))

    return on_chunk_stored


@defect("BUG-48", f"{INSTALLING}:_install")
def an_install_is_acknowledged_before_it_is_recorded(honest: Any) -> Any:
    """The answer leaves before the store knows of the snapshot."""

    def _install(*given: Any) -> Any:
        after, effects = honest(*given)
        return Transition(after, tuple(sorted(effects, key=lambda effect: type(effect) is Persist)))

    return _install


@defect("BUG-49", f"{KEEPER}._load", peers=5)
def of_two_loaded_states_only_the_later_is_kept(honest: Any) -> Any:
    """A second snapshot that is loaded before the machine took the first displaces it."""

    def _load(self: Any, snapshot: Any) -> None:
        self._loaded.clear()
        honest(self, snapshot)

    return _load
