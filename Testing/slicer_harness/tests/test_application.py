"""Dialogs, settings, processes, timers and the event loop, as a module uses them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest


def test_dialogs_are_answered_from_the_queue(dialogs):
    import qt
    import slicer

    dialogs.answer(qt.QMessageBox.Ok, qt.QMessageBox.No, "organ.promptseg", "Install")
    assert slicer.util.confirmOkCancelDisplay("Overwrite?")
    assert not slicer.util.confirmYesNoDisplay("Delete?")
    assert qt.QFileDialog.getSaveFileName(None, "Save", "", "*.promptseg") == "organ.promptseg"
    box = qt.QMessageBox()
    install = box.addButton("&Install", qt.QMessageBox.AcceptRole)
    box.addButton(qt.QMessageBox.Cancel)
    box.exec_()
    assert box.clickedButton() is install
    assert [shown.text for shown in dialogs.shown] == ["Overwrite?", "Delete?", "", ""]


def test_a_dialog_is_filled_in_by_a_function(dialogs):
    import qt

    dialog = qt.QDialog()
    edit = qt.QLineEdit(dialog)

    def fill(shown):
        assert shown is dialog
        edit.text = "Liver"
        return qt.QDialog.Accepted

    dialogs.answer(fill)
    assert dialog.exec_() == qt.QDialog.Accepted
    assert edit.text == "Liver"


def test_a_dialog_without_an_answer_is_refused(scene):
    import slicer

    from Testing.slicer_harness.dialogs import UnexpectedDialog

    with pytest.raises(UnexpectedDialog, match="No memory"):
        slicer.util.errorDisplay("No memory")


def test_settings_are_private(slicer_app, scene):
    import qt
    import slicer

    settings = slicer.app.userSettings()
    settings.setValue("PromptSeg/library", "/data")
    settings.sync()
    assert qt.QSettings().value("PromptSeg/library") == "/data"
    assert slicer.util.settingsValue("PromptSeg/library", "") == "/data"
    assert settings.fileName().startswith(slicer.app.temporaryPath)


def test_settings_end_with_their_test(scene):
    import qt

    assert qt.QSettings().allKeys() == []


def test_a_process_talks_and_its_end_is_heard(scene):
    import qt

    from Testing.slicer_harness.driving import process_events

    process, ended, received = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()", lambda: received.append(process.readAllStandardOutput().data()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-c", "print(input()[::-1], flush=True); input()"])
    process.write(b"abc\n")
    process_events(until=lambda: b"cba" in b"".join(received), timeout_s=20)
    assert process.state() == qt.QProcess.Running
    process.kill()
    process_events(until=lambda: ended, timeout_s=20)
    assert ended[0][1] == qt.QProcess.CrashExit


def test_the_heartbeat_finds_what_blocks_the_window(scene):
    import qt

    from Testing.slicer_harness.driving import heartbeat, process_events

    with heartbeat() as free:
        process_events(until=lambda: free.beats > 5)
    qt.QTimer.singleShot(20, lambda: time.sleep(0.3))
    with heartbeat() as blocked:
        process_events(until=lambda: blocked.longest_gap_ms > 250)
    assert blocked.longest_gap_ms >= 300
    assert free.longest_gap_ms < blocked.longest_gap_ms


def test_waiting_ends(scene):
    from Testing.slicer_harness.driving import process_events

    with pytest.raises(TimeoutError):
        process_events(until=lambda: False, timeout_s=0.1)


def test_a_shortcut_and_a_node_box(scene):
    import numpy as np
    import qt
    import slicer

    from Testing.slicer_harness.driving import add_scan

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    chosen = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", chosen.append)
    box.setMRMLScene(scene)
    first = add_scan(np.zeros((2, 3, 4), np.int16), name="first")
    second = add_scan(np.zeros((2, 3, 4), np.int16), name="second")
    hidden = add_scan(np.zeros((2, 3, 4), np.int16), name="hidden")
    hidden.SetHideFromEditors(True)
    scene.AddNewNodeByClass("vtkMRMLTextNode")
    assert box.nodeCount() == 3 - 1
    box.setCurrentNode(second)
    scene.RemoveNode(second)
    assert chosen == [first, second, first]
    first.SetHideFromEditors(True)
    assert box.currentNode() is None
    first.SetHideFromEditors(False)
    assert box.currentNode() is first
    box.addNode()
    assert box.currentNode().IsA("vtkMRMLScalarVolumeNode")

    pressed = []
    shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Return"), slicer.util.mainWindow())
    shortcut.connect("activated()", lambda: pressed.append(1))
    shortcut.activated.emit()
    assert pressed == [1]
    shortcut.deleteLater()


def test_nothing_is_installed(scene, tmp_path: Path):
    import slicer
    import slicer.packaging

    (tmp_path / "requirements.txt").write_text("monai>=1.4,<2  # networks\n\n", encoding="utf-8")
    slicer.packaging.CALLS.clear()
    slicer.util.pip_install("monai")
    requirements = slicer.packaging.load_requirements(tmp_path / "requirements.txt")
    slicer.packaging.pip_ensure(requirements, requester="PromptSeg")
    assert [call[0] for call in slicer.packaging.CALLS] == ["pip_install", "pip_ensure"]
    assert str(requirements[0]) == "monai<2,>=1.4"


def test_collapsible_button_hides_its_contents(scene):
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    label = qt.QLabel("inside")
    layout.addWidget(label)
    heard = []
    section.connect("contentsCollapsed(bool)", heard.append)
    section.show()
    section.collapsed = True
    assert not label.isVisible()
    section.click()
    assert label.isVisible()
    assert heard == [True, False]
    label.visible = False
    section.collapsed = True
    section.collapsed = False
    assert not label.isVisible()
    section.collapsed = True
    label.visible = True
    assert not label.isVisible()
    section.collapsed = False
    assert label.isVisible()


def test_what_is_hidden_before_the_section_is_shown_stays_hidden(scene):
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    hidden, shown = qt.QLabel("hidden"), qt.QLabel("shown")
    layout.addWidget(hidden)
    layout.addWidget(shown)
    hidden.visible = False
    section.show()
    assert (hidden.isVisible(), shown.isVisible()) == (False, True)


def test_path_line_edit_browses_and_remembers(dialogs, tmp_path):
    import ctk

    edit = ctk.ctkPathLineEdit()
    edit.filters = ctk.ctkPathLineEdit.Dirs
    edit.settingKey = "PromptSeg/wheelhouse"
    dialogs.answer(str(tmp_path))
    edit.browse()
    edit.addCurrentPathToHistory()
    again = ctk.ctkPathLineEdit()
    again.settingKey = "PromptSeg/wheelhouse"
    again.retrieveHistory()
    assert again.currentPath == str(tmp_path)
    assert dialogs.shown[0].kind == "QFileDialog.getExistingDirectory"
