"""The rules of Raft: pure functions from a state and an event to a new state and effects."""
