"""The table of planted defects: ``DEFECTS``; and what becomes of the known bugs that none of them stands for.

A line of the list of known bugs (BUG-01 to BUG-78) is answered here by a defect of ours that the simulator finds, or in
``NOT_PLANTED`` by the test that covers it, where it is about something that a simulation of the rules, the engine, the
writer and the store cannot see, or by the feature that it waits for.
"""

from __future__ import annotations

from tests.simulation import (
    defects_a,
    defects_b,
    defects_c,
    defects_handovers,
    defects_leases,
    defects_members,
    defects_reads,
    defects_resting,
    defects_sessions,
    defects_snapshots,
)
from tests.simulation.hunting import DEFECTS

__all__ = [
    "DEFECTS",
    "NOT_PLANTED",
    "defects_a",
    "defects_b",
    "defects_c",
    "defects_handovers",
    "defects_leases",
    "defects_members",
    "defects_reads",
    "defects_resting",
    "defects_sessions",
    "defects_snapshots",
]

NOT_PLANTED: dict[int, str] = {
    # An engine below us: its files are exchanged or compacted by itself, or its pages are damaged.
    5: "tests/storage/test_log_store_crashes.py::test_a_power_cut_between_any_two_steps_loses_nothing_on_rocksdb",
    6: "tests/storage/test_log_store_crashes.py::test_a_power_cut_between_any_two_steps_loses_nothing_on_rocksdb",
    7: "tests/storage/test_log_store_damage.py::test_a_mangled_lmdb_file_is_reported_and_this_process_lives",
    # Locks with fencing tokens: nothing in the log or the rules, but in a machine.
    42: "tests/public_api/test_machines.py::test_a_lease_that_is_over_is_lost_and_the_next_token_is_higher",
    61: "tests/threads/test_membership.py::test_a_peer_whose_disk_was_wiped_is_added_as_a_new_one",
    # Real threads, real memory, real processes.
    72: "tests/threads/test_answers.py::test_the_number_of_unfinished_requests_is_bounded",
    73: "tests/threads/test_busy_process.py::test_four_busy_threads_cost_no_election",
    75: "tests/storage/adapters/test_lock.py::test_the_error_names_the_process_that_holds_the_store",
    76: "tests/behaviours/test_admission.py::test_a_foreign_cluster_is_not_heard",
    78: "tests/threads/test_supervisor.py::test_the_name_stays_taken_during_the_pause",
}
"""By number: the test that covers it, or what it waits for."""
