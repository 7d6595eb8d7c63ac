"""Sends the engine what it does not have yet of the scan, the drawings and the tokens."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import slicer

from PromptSegLib.mrml.volumes import revision, volume_from_node

if TYPE_CHECKING:
    from PromptSegLib.engine.client import Client
    from PromptSegLib.engine.job import Job
    from PromptSegPanel.case import Case


class Sender:
    """Remembers what was sent to a client. Each method returns the jobs that bring it up to date, none if it is; a job
    that was sent before and is under way is one of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scan: tuple[str, Job] | None = None
        self._drawings: dict[str, tuple[str, Job]] = {}
        self._with_token: set[str] = set()

    def send_scan(self, volume_node: slicer.vtkMRMLScalarVolumeNode) -> list[Job]:
        """InputError if the scan cannot be used."""
        now = f"{volume_node.GetID()} {revision(volume_node)}"
        if self._scan is not None and self._scan[0] == now:
            return _under_way(self._scan[1])
        job = self._client.submit("set_image", image=volume_from_node(volume_node))
        self._scan = now, job
        # With its scan, the engine drops what was drawn on it.
        self._drawings.clear()
        job.on_failed.append(lambda sentence: self._forget_scan())
        return [job]

    def send_drawing(self, case: Case, key: str, scribbles: bool) -> list[Job]:
        """What is drawn of a class, with its name and color."""
        info = case.info(key)
        now = f"{case.revision(key, scribbles)} {info}"
        if key in self._drawings and self._drawings[key][0] == now:
            return _under_way(self._drawings[key][1])
        job = self._client.submit("annotate", key=key, info=info, drawing=case.drawing(key, scribbles))
        self._drawings[key] = now, job
        job.on_failed.append(lambda sentence: self._drawings.pop(key, None))
        return [job]

    def send_token(self, key: str, data: bytes, unless_known: bool = False) -> list[Job]:
        """The token that a class is to have: a training that was cancelled leaves one that was only begun to learn.

        unless_known: not if the engine has these very bytes, of which it knows whether it learned them here.
        """
        # What is about to be forgotten still is among the client's.
        is_known = key in self._with_token and self._client.tokens.get(key) == data
        self._with_token.add(key)
        if unless_known and is_known:
            return []
        return [self._client.submit("put_token", key=key, data=data)]

    def note_token(self, key: str) -> None:
        """The engine has this token, since it made it."""
        self._with_token.add(key)

    def send_forgotten(self, case: Case, key: str, data: bytes, scribbles: bool) -> list[Job]:
        """Drawing and token of a class that the engine was told to drop, of a segment that Undo brought back."""
        if key in self._drawings:
            return []
        return self.send_drawing(case, key, scribbles) + self.send_token(key, data)

    def forget(self, but: Collection[str] = ()) -> None:
        """Have the engine drop every class but these: the next segment may get the ID of one that was removed."""
        for key in (self._drawings.keys() | self._with_token) - {*but}:
            self._client.submit("forget", key=key)
            self._drawings.pop(key, None)
            self._with_token.discard(key)

    def _forget_scan(self) -> None:
        self._scan = None


def _under_way(job: Job) -> list[Job]:
    return [] if job.is_finished else [job]
