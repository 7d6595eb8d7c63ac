"""Which structures Train is about: those that changed, unless the user says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

# A segment drawn on more slices than this before PromptSeg saw it is taken for finished work, not for a drawing; so is
# one on at least this many without a gap.
_MOST_DRAWN = 40
_FEWEST_GAPLESS = 8


@dataclass
class _Entry:
    """Revisions of the drawing: the present one, the same with all that is known beside it, of the latter what was
    learned, and what was taken for finished work."""

    revision: str
    known: str
    trained: str | None
    finished: str | None
    user_says: bool | None = None


class Choice:
    """The ticks: a structure has one while its drawing is newer than its token, until the user says otherwise."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def see(
        self,
        key: str,
        revision: str,
        drawn: int,
        is_learned: bool,
        is_gapless: bool = False,
        strokes: str | None = None,
    ) -> None:
        """Take note of how a structure is drawn now.

        Args:
            drawn: on how many slices.
            is_learned: whether the scene came with a token that knows it.
            is_gapless: whether these are all slices from the first to the last, and nothing says that they were drawn
                to be learned.
            strokes: with scribbles, a revision of the drawing and of the strokes beside it, which teach it, too.
        """
        entry, known = self._entries.get(key), strokes or revision
        if entry is None:
            is_finished = drawn > _MOST_DRAWN or (is_gapless and drawn >= _FEWEST_GAPLESS)
            trained, finished = known if is_learned else None, revision if is_finished else None
            self._entries[key] = _Entry(revision, known, trained, finished)
            return
        # What the user unticks among scribbles is background, and stays so with each stroke.
        if entry.revision != revision and not (strokes and entry.user_says is False):
            entry.user_says = None
        entry.revision, entry.known = revision, known

    def set(self, key: str, chosen: bool) -> None:
        self._entries[key].user_says = chosen

    def note_trained(self, key: str, revision: str) -> None:
        """The drawing of this revision has been learned, with scribbles that of the strokes."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.trained, entry.user_says = revision, None

    def is_chosen(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.user_says is not None:
            return entry.user_says
        return entry.known != entry.trained and entry.revision != entry.finished

    def is_trained(self, key: str) -> bool:
        """Whether the token knows all that is drawn."""
        entry = self._entries.get(key)
        return entry is not None and entry.trained == entry.known

    def is_finished(self, key: str) -> bool:
        """Whether it was taken for finished work when it was first seen."""
        entry = self._entries.get(key)
        return entry is not None and entry.finished is not None


def lasting_part(revision: str) -> str:
    """Of a drawing's revision, what stays when the scene is opened again."""
    return " ".join(line.rpartition("/")[2] for line in revision.splitlines())
