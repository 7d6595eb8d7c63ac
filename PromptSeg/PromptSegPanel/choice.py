"""Which structures Train is about: those that changed, unless the user says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

# A segment drawn on more slices than this before PromptSeg saw it is taken for finished work, not for a drawing; so is
# one on at least this many without a gap.
_MOST_DRAWN = 40
_FEWEST_GAPLESS = 8


@dataclass
class _Entry:
    """Revisions of the drawing: the present one, what was learned, and what was taken for finished work."""

    revision: str
    trained: str | None
    finished: str | None
    user_says: bool | None = None


class Choice:
    """The ticks: a structure has one while its drawing is newer than its token, until the user says otherwise."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def see(self, key: str, revision: str, drawn: int, is_learned: bool, is_gapless: bool = False) -> None:
        """Take note of how a structure is drawn now.

        Args:
            drawn: on how many slices.
            is_learned: whether the scene came with a token that knows it.
            is_gapless: whether these are all slices from the first to the last, and nothing says that they were drawn
                to be learned.
        """
        entry = self._entries.get(key)
        if entry is None:
            is_finished = drawn > _MOST_DRAWN or (is_gapless and drawn >= _FEWEST_GAPLESS)
            self._entries[key] = _Entry(revision, revision if is_learned else None, revision if is_finished else None)
        elif entry.revision != revision:
            entry.revision, entry.user_says = revision, None

    def set(self, key: str, chosen: bool) -> None:
        self._entries[key].user_says = chosen

    def note_trained(self, key: str, revision: str) -> None:
        """The drawing of this revision has been learned."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.trained, entry.user_says = revision, None

    def is_chosen(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.user_says is not None:
            return entry.user_says
        return entry.revision not in (entry.trained, entry.finished)

    def is_trained(self, key: str) -> bool:
        """Whether the token knows all that is drawn."""
        entry = self._entries.get(key)
        return entry is not None and entry.trained == entry.revision

    def is_finished(self, key: str) -> bool:
        """Whether it was taken for finished work when it was first seen."""
        entry = self._entries.get(key)
        return entry is not None and entry.finished is not None
