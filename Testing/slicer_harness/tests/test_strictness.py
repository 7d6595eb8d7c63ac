"""What Slicer would refuse, or print and forget, fails a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

BAD_TESTS = """
def test_slot(scene):
    import qt
    button = qt.QPushButton("Go")
    button.clicked.connect(lambda: 1 / 0)
    button.click()

def test_slot_by_signature(scene):
    import qt
    button = qt.QPushButton("Go")
    button.connect("clicked(bool)", lambda checked: 1 / 0)
    button.click()

def test_timer(scene):
    import qt
    from Testing.slicer_harness.driving import process_events
    fired = []
    qt.QTimer.singleShot(0, lambda: (fired.append(1), 1 / 0))
    process_events(until=lambda: fired)

def test_thread(scene):
    import threading
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

def test_observer(scene):
    scene.AddObserver(scene.NodeAddedEvent, lambda caller, event: 1 / 0)
    try:
        scene.AddNewNodeByClass("vtkMRMLTextNode")
    finally:
        scene.RemoveObservers(scene.NodeAddedEvent)

def test_paint(scene):
    import qt
    class Plot(qt.QWidget):
        def paintEvent(self, event):
            1 / 0
    Plot().grab()

def test_vtk_error(scene):
    import vtk
    vtk.vtkXMLPolyDataReader().Update()

def test_qt_warning(scene):
    import qt
    qt.QPainter().drawPoint(0, 0)

def test_dialog_in_a_slot(scene):
    import qt, slicer
    button = qt.QPushButton("Go")
    button.clicked.connect(lambda: slicer.util.errorDisplay("No memory"))
    button.click()

def test_unused_answer(dialogs):
    dialogs.answer(1)

def test_problem_that_did_not_come(problems):
    with problems.expected("division"):
        pass
"""
GOOD_TESTS = """
def test_nothing_is_loaded():
    import sys
    assert not {"PySide6", "slicer", "vtk", "qt"} & set(sys.modules)

def test_expected_problem(problems):
    import qt
    with problems.expected("ZeroDivisionError"):
        button = qt.QPushButton("Go")
        button.clicked.connect(lambda: 1 / 0)
        button.click()
"""


@pytest.mark.slow
def test_problems_in_the_background_fail_the_test(tmp_path):
    (tmp_path / "test_bad.py").write_text(BAD_TESTS, encoding="utf-8")
    (tmp_path / "test_good.py").write_text(GOOD_TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "Testing.slicer_harness.fixtures", "-rA", "--no-header"]
    ran = subprocess.run(
        [*command, "test_good.py", "test_bad.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    summary = ran.stdout.split("short test summary info")[-1]
    failed = {line.split("::")[1].split()[0] for line in summary.splitlines() if line.startswith(("FAILED", "ERROR"))}
    names = {line.split("(")[0].removeprefix("def ") for line in BAD_TESTS.splitlines() if line.startswith("def ")}
    assert failed == names, ran.stdout
    assert ran.returncode == 1


def test_unknown_members_of_widgets_are_refused(scene):
    import ctk
    import qt
    import slicer

    for widget in (qt.QLabel(), ctk.ctkSliderWidget(), slicer.qMRMLNodeComboBox()):
        with pytest.raises(AttributeError, match="nothing"):
            widget.nothing  # noqa: B018
        with pytest.raises(AttributeError, match="takes no new attributes"):
            widget.nothing = 1
        with pytest.raises(AttributeError, match="cannot be overwritten"):
            widget.setVisible = None
        with pytest.raises(ValueError, match=r"nothing\(\)"):
            widget.connect("nothing()", print)


def test_properties_are_attributes_of_their_type(scene):
    import qt

    label, slider, combo = qt.QLabel("text"), qt.QSlider(), qt.QComboBox()
    assert label.text == "text"
    with pytest.raises(TypeError, match="not callable"):
        label.text()
    with pytest.raises(AttributeError, match="does not accept"):
        slider.value = "3"
    with pytest.raises(AttributeError, match="not writable"):
        combo.count = 3
    label.visible = 1
    assert label.visible is True
    assert label.isVisible()
    slider.orientation = qt.Qt.Horizontal
    assert slider.orientation == 1
    label.name = "status"
    assert label.objectName == "status"


def test_python_subclasses_may_have_attributes(scene):
    import qt

    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.state = "ready"
    assert panel.state == "ready"
    child = qt.QLabel("x", panel)
    child.objectName = "status"
    assert panel.status is child


def test_python_makes_no_signals_and_lists_are_tuples(scene):
    import qt

    assert not {"Signal", "Slot", "Property"} & set(dir(qt))
    widget = qt.QWidget()
    child = qt.QLabel("x", widget)
    assert widget.children() == (child,)
    assert widget.findChildren(qt.QLabel) == (child,)


def test_a_slot_gets_no_more_arguments_than_it_takes(scene):
    import qt

    got = []

    class Receiver:
        def none(self):
            got.append(())

        def one(self, checked):
            got.append((checked,))

    receiver = Receiver()
    button = qt.QPushButton()
    button.checkable = True
    button.connect("clicked(bool)", receiver.none)
    button.clicked.connect(receiver.one)
    button.click()
    assert sorted(got) == [(), (True,)]
    assert button.disconnect("clicked(bool)", receiver.none)
    button.clicked.disconnect(receiver.one)
    button.click()
    assert len(got) == 2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('<widget class="ctkNothing" name="a"/>', "ctkNothing"),
        ('<widget class="QLabel" name="a"><property name="txt"><string>x</string></property></widget>', "txt"),
        ('<widget class="QLabel" name="a"/><widget class="QLabel" name="a"/>', "more than one"),
    ],
)
def test_a_wrong_ui_file_is_refused(scene, tmp_path, text, wrong):
    import slicer

    items = "".join(f"<item>{widget}</item>" for widget in text.replace("/><", "/>\n<").splitlines())
    path = tmp_path / "form.ui"
    path.write_text(
        f'<ui version="4.0"><class>Form</class><widget class="QWidget" name="Form"><layout class="QVBoxLayout">'
        f"{items}</layout></widget></ui>",
        encoding="utf-8",
    )
    with pytest.raises(RuntimeError, match=wrong):
        slicer.util.loadUI(str(path))


def test_a_wrong_connection_in_a_ui_file_is_refused(scene, tmp_path):
    import slicer

    path = tmp_path / "form.ui"
    path.write_text(
        '<ui version="4.0"><class>Form</class><widget class="QWidget" name="Form"/><connections><connection>'
        "<sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>Form</receiver>"
        "<slot>show()</slot></connection></connections></ui>",
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match="mrmlSceneChanged"):
        slicer.util.loadUI(str(path))


def test_a_missing_system_library_is_named(monkeypatch):
    from Testing.slicer_harness import boot, system_libraries

    monkeypatch.setitem(system_libraries.PACKAGES, "libnothing.so.1", "libnothing1")
    with pytest.raises(boot.MissingSystemLibrary, match=r"`apt-get install libnothing1`\."):
        boot.check_system_libraries()
