"""Section 3: which structures to train, and how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import qt
from slicer.i18n import tr as _

from PromptSegPanel.controller import Controller
from PromptSegPanel.guidance import Activity, Situation, Structure, time_left
from PromptSegPanel.plot import AgreementPlot, Curve

_MOST_ROWS = 5


class TrainSection:
    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self._ui = ui
        self._controller = controller
        self._plot = AgreementPlot(ui.plotLabel)
        self._shown: tuple[tuple[object, ...], ...] | None = None
        self._marked: set[str] = set()
        self._curves: Mapping[str, Curve] = {}
        ui.plotCaptionLabel.visible = False
        ui.trainButton.connect("clicked(bool)", lambda checked: self.train_or_cancel())
        ui.finishButton.connect("clicked(bool)", lambda checked: controller.use_what_is_learned())
        ui.structuresList.connect("itemChanged(QListWidgetItem*)", self._ticked)

    def train_or_cancel(self) -> None:
        """What the one large button does."""
        if self._controller.situation.busy:
            self._controller.cancel()
        elif self._ui.trainButton.enabled:
            self._controller.train()

    def update(self, situation: Situation) -> None:
        self._fill_list(situation.structures)
        busy = situation.busy
        self._ui.trainButton.text = _("Cancel") if busy else _("Train")
        if busy:
            self._ui.trainButton.toolTip = _("End what is going on. Your segments stay as they are.")
        bar = self._ui.progressBar
        bar.visible = busy
        # Without a known end, the bar moves to and fro.
        bar.maximum = 1000 if situation.fraction > 0 else 0
        bar.value = round(1000 * situation.fraction)
        bar.format = "  ".join(filter(None, ("%p%", time_left(situation.seconds_left))))
        self._draw_plot(situation)

    def _draw_plot(self, situation: Situation) -> None:
        """The curves of the latest training stay until the next one begins."""
        if self._controller.curves or situation.activity is Activity.TRAINING:
            self._curves = self._controller.curves
        if self._curves:
            self._plot.draw(self._curves, {structure.key: structure.color for structure in situation.structures})
        else:
            self._plot.clear()
        self._ui.plotCaptionLabel.visible = bool(self._curves)

    def _fill_list(self, structures: tuple[Structure, ...]) -> None:
        shown = tuple((s.key, s.name, s.color, s.drawn > 0, s.chosen, s.trained) for s in structures)
        if shown == self._shown:
            return
        self._shown, former = shown, self._marked
        self._marked = {s.key for s in structures if s.drawn and s.chosen}
        listing = self._ui.structuresList
        blocked = listing.blockSignals(True)
        listing.clear()
        for structure in structures:
            listing.addItem(_item(structure))
        listing.blockSignals(blocked)
        listing.visible = bool(structures)
        if structures:
            rows = min(len(structures), _MOST_ROWS)
            listing.setFixedHeight(rows * listing.sizeHintForRow(0) + 2 * listing.frameWidth)
        # Among many that were finished before, what is going to be trained must be seen.
        for row, structure in enumerate(structures):
            if structure.key in self._marked - former:
                listing.scrollToItem(listing.item(row))

    def _ticked(self, item: qt.QListWidgetItem) -> None:
        self._controller.choose(item.data(qt.Qt.UserRole), item.checkState() == qt.Qt.Checked)


def _item(structure: Structure) -> qt.QListWidgetItem:
    if not structure.drawn:
        text = _("{name} (nothing drawn)").format(name=structure.name)
    elif structure.trained:
        text = _("{name} (learned)").format(name=structure.name)
    else:
        text = structure.name
    item = qt.QListWidgetItem(text)
    item.setData(qt.Qt.UserRole, structure.key)
    color = qt.QPixmap(12, 12)
    color.fill(qt.QColor(*structure.color))
    item.setIcon(qt.QIcon(color))
    item.setCheckState(qt.Qt.Checked if structure.drawn and structure.chosen else qt.Qt.Unchecked)
    if not structure.drawn:
        item.setFlags(qt.Qt.NoItemFlags)
        item.setToolTip(_("First draw it on a few slices."))
    return item
