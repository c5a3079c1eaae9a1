"""The error for a word that a machine does not know."""

from __future__ import annotations

__all__ = ["unknown"]


def unknown(word: object, *, known: str) -> ValueError:
    """Return the error that names the word, or its wrong number of arguments, and the words that are known."""
    if isinstance(word, tuple) and word:
        return ValueError(f"unknown word {word[0]!r:.100} with {len(word) - 1} arguments; known are {known}")
    return ValueError(f"unknown word {word!r:.100}; known are {known}")
