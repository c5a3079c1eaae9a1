"""The nouns of Raft: values only; no threads, clock, dice or files live here."""
