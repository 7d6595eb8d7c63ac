"""A small plot of how training goes, painted in the colors of the panel's theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import qt
from slicer.i18n import tr as _

Curve = Sequence[tuple[float, float]]
"""Points (part of the training done, DSC on the part of the drawing kept aside), both 0 to 1."""

_HEIGHT = 96
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 10


class AgreementPlot:
    """Shows on a label how well the part of each drawing that was kept aside is found, as training goes on."""

    def __init__(self, label: qt.QLabel) -> None:
        self._label = label
        label.setMinimumHeight(_HEIGHT)
        self.clear()

    def clear(self) -> None:
        self._label.visible = False

    def draw(self, curves: Mapping[str, Curve], colors: Mapping[str, tuple[int, int, int]]) -> None:
        """One line per structure, in its color, and the latest value beside its end."""
        self._label.visible = True
        width = max(self._label.width, 160)
        picture = qt.QPixmap(width, _HEIGHT)
        picture.fill(self._label.palette.color(qt.QPalette.Base))
        painter = qt.QPainter()
        painter.begin(picture)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        area = (_LEFT, _TOP, width - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)
        self._draw_grid(painter, area)
        for key, curve in curves.items():
            painter.setPen(qt.QPen(qt.QColor(*colors.get(key, (128, 128, 128))), 2))
            points = [_place(point, area) for point in curve]
            for start, end in pairwise(points):
                painter.drawLine(*start, *end)
            if len(points) == 1:
                painter.drawPoint(*points[0])
        painter.end()
        self._label.setPixmap(picture)

    def _draw_grid(self, painter: qt.QPainter, area: tuple[int, int, int, int]) -> None:
        left, top, width, height = area
        text = self._label.palette.color(qt.QPalette.Text)
        line = self._label.palette.color(qt.QPalette.Mid)
        for value in (0.0, 0.5, 1.0):
            y = round(top + height * (1 - value))
            painter.setPen(qt.QPen(line, 1))
            painter.drawLine(left, y, left + width, y)
            painter.setPen(qt.QPen(text, 1))
            painter.drawText(0, y - 8, left - 6, 16, qt.Qt.AlignRight | qt.Qt.AlignVCenter, _percent(value))


def _percent(value: float) -> str:
    return _("{percent}%").format(percent=round(100 * value))


def _place(point: tuple[float, float], area: tuple[int, int, int, int]) -> tuple[int, int]:
    left, top, width, height = area
    along, up = (min(max(value, 0.0), 1.0) for value in point)
    return round(left + along * width), round(top + (1 - up) * height)
