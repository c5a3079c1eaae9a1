"""Short programs, each of which runs by itself: ``python -m raft_actors.examples.lock``."""
