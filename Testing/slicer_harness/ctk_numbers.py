"""CTK's widgets of numbers: sliders, ranges, spin boxes."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property, Signal

from Testing.slicer_harness import qt
from Testing.slicer_harness.ui_loader import stand_in, stored


@stand_in
class ctkSliderWidget(qt.QWidget):
    """A slider and a spin box that show one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._value, self._minimum, self._maximum, self._step, self._decimals = 0.0, 0.0, 99.0, 1.0, 2
        self._slider = qt.QSlider(qt.Qt.Horizontal)
        self._spin_box = qt.QDoubleSpinBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin_box)
        self._spin_box.valueChanged.connect(self._set_value)
        self._slider.valueChanged.connect(lambda position: self._set_value(self._minimum + position * self._step))
        self._show()

    def _show(self) -> None:
        step = self._step or 1.0
        for widget in (self._slider, self._spin_box):
            widget.blockSignals(True)
        self._spin_box.setDecimals(self._decimals)
        self._spin_box.setRange(self._minimum, self._maximum)
        self._spin_box.setSingleStep(self._step)
        self._spin_box.setValue(self._value)
        self._slider.setRange(0, max(0, round((self._maximum - self._minimum) / step)))
        self._slider.setValue(round((self._value - self._minimum) / step))
        for widget in (self._slider, self._spin_box):
            widget.blockSignals(False)

    def _set_value(self, value: float) -> None:
        value = min(max(value, self._minimum), self._maximum)
        if value == self._value:
            self._show()
            return
        self._value = value
        self._show()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _set_range(self, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._set_value(self._value)

    def _set_step(self, step: float) -> None:
        self._step = step
        self._show()

    def _set_decimals(self, decimals: int) -> None:
        self._decimals = decimals
        self._show()

    value = Property(float, lambda self: self._value, _set_value)
    minimum = Property(float, lambda self: self._minimum, lambda self, v: self._set_range(v, self._maximum))
    maximum = Property(float, lambda self: self._maximum, lambda self, v: self._set_range(self._minimum, v))
    singleStep = Property(float, lambda self: self._step, _set_step)
    decimals = Property(int, lambda self: self._decimals, _set_decimals)
    suffix = Property(str, lambda self: self._spin_box.suffix, lambda self, text: self._spin_box.setSuffix(text))
    prefix = Property(str, lambda self: self._spin_box.prefix, lambda self, text: self._spin_box.setPrefix(text))
    pageStep = stored(float, "pageStep", 10.0)
    tickInterval = stored(float, "tickInterval", 0.0)
    tracking = stored(bool, "tracking", True)
    spinBoxVisible = Property(
        bool, lambda self: not self._spin_box.isHidden(), lambda self, shown: self._spin_box.setVisible(shown)
    )

    def setRange(self, minimum: float, maximum: float) -> None:
        self._set_range(minimum, maximum)

    def slider(self) -> qt.QSlider:
        return self._slider

    def spinBox(self) -> qt.QDoubleSpinBox:
        return self._spin_box


@stand_in
class ctkDoubleSlider(qt.QWidget):
    valueChanged = Signal(float)
    sliderReleased = Signal()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((it for it in arguments if isinstance(it, qt.QWidget)), None))
        self._value, self._minimum, self._maximum, self._step = 0.0, 0.0, 100.0, 1.0
        self._slider = qt.QSlider(qt.Qt.Horizontal)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        self._slider.valueChanged.connect(lambda position: self._set_value(self._minimum + position * self._step))
        self._slider.sliderReleased.connect(self.sliderReleased)
        self._show()

    def _show(self) -> None:
        self._slider.blockSignals(True)
        self._slider.setRange(0, round((self._maximum - self._minimum) / self._step))
        self._slider.setValue(round((self._value - self._minimum) / self._step))
        self._slider.blockSignals(False)

    def _set_value(self, value: float) -> None:
        value = min(max(value, self._minimum), self._maximum)
        changed = value != self._value
        self._value = value
        self._show()
        if changed:
            self.valueChanged.emit(value)

    def _set_range(self, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._set_value(self._value)

    def _set_step(self, step: float) -> None:
        self._step = step
        self._show()

    value = Property(float, lambda self: self._value, _set_value)
    minimum = Property(float, lambda self: self._minimum, lambda self, v: self._set_range(v, self._maximum))
    maximum = Property(float, lambda self: self._maximum, lambda self, v: self._set_range(self._minimum, v))
    singleStep = Property(float, lambda self: self._step, _set_step)
    orientation = Property(int, lambda self: int(self._slider.orientation), lambda self, way: self._turn(way))
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)

    def _turn(self, way: int) -> None:
        self._slider.orientation = qt.Qt.Orientation(way)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._set_range(minimum, maximum)


@stand_in
class ctkRangeWidget(qt.QWidget):
    """Two spin boxes for the ends of an interval."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = qt.QDoubleSpinBox(), qt.QDoubleSpinBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for box in (self._low, self._high):
            layout.addWidget(box)
            box.valueChanged.connect(self._tell)
        self._high.value = self._high.maximum
        self._told = (self._low.value, self._high.value)

    def _tell(self) -> None:
        low, high = self._low.value, self._high.value
        before, self._told = self._told, (low, high)
        if low != before[0]:
            self.minimumValueChanged.emit(low)
        if high != before[1]:
            self.maximumValueChanged.emit(high)
        if (low, high) != before:
            self.valuesChanged.emit(low, high)

    def _set_limit(self, name: str, value: float) -> None:
        for box in (self._low, self._high):
            setattr(box, name, value)

    minimum = Property(float, lambda self: self._low.minimum, lambda self, v: self._set_limit("minimum", v))
    maximum = Property(float, lambda self: self._low.maximum, lambda self, v: self._set_limit("maximum", v))
    decimals = Property(int, lambda self: self._low.decimals, lambda self, v: self._set_limit("decimals", v))
    singleStep = Property(float, lambda self: self._low.singleStep, lambda self, v: self._set_limit("singleStep", v))
    minimumValue = Property(float, lambda self: self._low.value, lambda self, v: self._low.setValue(v))
    maximumValue = Property(float, lambda self: self._high.value, lambda self, v: self._high.setValue(v))

    def setRange(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def setValues(self, low: float, high: float) -> None:
        self.minimumValue, self.maximumValue = min(low, high), max(low, high)


@stand_in
class ctkDoubleRangeSlider(ctkRangeWidget):
    pass


@stand_in
class ctkDoubleSpinBox(qt.QDoubleSpinBox):
    pass
