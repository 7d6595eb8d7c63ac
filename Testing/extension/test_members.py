"""Every member of Slicer, CTK, VTK and Qt that PromptSeg uses exists; and a made-up one would be found."""

from __future__ import annotations

import ast
import re

import pytest

from Testing.extension.members.headers import clean, decorated, read_classes
from Testing.extension.members.table import MemberTable
from Testing.extension.members.ui import check_ui
from Testing.extension.members.usage import UI_FILE, check_sources, read_sources


@pytest.fixture(scope="module")
def table() -> MemberTable:
    return MemberTable.load()


REGENERATE = "if a name is new to PromptSeg but exists, run python -m Testing.extension.members.generate"


def test_every_member_exists(table: MemberTable) -> None:
    faults = check_sources(table, read_sources(), UI_FILE.read_text(encoding="utf-8"))
    assert not faults, "\n".join([*faults, REGENERATE])


def test_a_made_up_name_is_found_wherever_it_stands(table: MemberTable) -> None:
    """Each CamelCase member of Slicer's that our sources use, misspelled in all of them at once."""
    nodes = [node for text in read_sources().values() for node in ast.walk(ast.parse(text))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    foreign = {name for name in used & table.all_members - defined if re.search(r"[a-z][A-Z]", name)}
    assert len(foreign) > 50
    pattern = re.compile(rf"\.({'|'.join(sorted(foreign))})\b")
    misspelled = {path: pattern.sub(r".\1MadeUp", text) for path, text in read_sources().items()}
    faults = "\n".join(check_sources(table, misspelled, UI_FILE.read_text(encoding="utf-8")))
    assert {name for name in foreign if f"{name}MadeUp" not in faults} == set()


UI = """<ui version="4.0"><widget class="qMRMLWidget" name="PromptSeg"><layout class="QVBoxLayout">
<item><widget class="qMRMLNodeComboBox" name="inputSelector"><property name="noneEnabled"><bool>true</bool></property>
<property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property></widget></item>
<item><widget class="ctkCollapsibleButton" name="advanced"><property name="collapsed"><bool>true</bool></property>
</widget></item></layout></widget><connections><connection><sender>PromptSeg</sender>
<signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
</connection></connections></ui>"""

# Each line alone in a function of a widget class; `node` is annotated, self.ui comes from UI.
GOOD = [
    "slicer.vtkMRMLSegmentationNode().GetSegmentation().GetNthSegmentID(0)",
    "node.GetImageData().GetDimensions()",
    "node.GetDisplayNode().GetWindow()",
    "slicer.mrmlScene.AddNewNodeByClass('vtkMRMLSegmentationNode').CreateDefaultDisplayNodes()",
    "self.ui.inputSelector.currentNode().GetID()",
    "self.ui.inputSelector.connect('currentNodeChanged(vtkMRMLNode*)', print)",
    "self.ui.advanced.collapsed = self.ui.advanced.enabled",
    "for each in slicer.util.getNodesByClass('vtkMRMLSegmentationNode'): each.GetSegmentation()",
    "slicer.app.testingEnabled()",
    "slicer.util.confirmOkCancelDisplay('')",
    "vtk.vtkImageData().SetDimensions(1, 1, vtk.VTK_UNSIGNED_CHAR)",
    "qt.QMessageBox.Ok, qt.Qt.AlignRight, qt.QTimer().start()",
    "getattr(node, 'anything').lowercase",
]
MADE_UP = {
    "slicer.vtkMRMLSegmentationNode().GetSegments()": "vtkMRMLSegmentationNode has no GetSegments",
    "slicer.vtkMRMLSegmentationNode().GetSegmentation().getNthSegment(0)": "vtkSegmentation has no getNthSegment",
    "node.GetArray()": "vtkMRMLScalarVolumeNode has no GetArray",
    "node.GetImageData().GetShape()": "vtkImageData has no GetShape",
    "other = node\n        other.name": "vtkMRMLScalarVolumeNode has no name",
    "slicer.mrmlScene.AddNewNodeByClass('vtkMRMLSegmentationNode').GetDimensions()": (
        "vtkMRMLSegmentationNode has no GetDimensions"
    ),
    "for each in slicer.util.getNodesByClass('vtkMRMLSegmentationNode'): each.segments": (
        "vtkMRMLSegmentationNode has no segments"
    ),
    "self.ui.inputSelector.currentVolume()": "qMRMLNodeComboBox has no currentVolume",
    "self.ui.outputSelector.currentNode()": "the .ui file has no outputSelector",
    "self.ui.advanced.setCollapsed(True)": "ctkCollapsibleButton has no setCollapsed",
    "self.ui.inputSelector.connect('nodeChanged(vtkMRMLNode*)', print)": "qMRMLNodeComboBox has no nodeChanged",
    "self.timer = qt.QTimer()\n        self.timer.begin()": "QTimer has no begin",
    "ctk.ctkNoSuchWidget()": "there is no ctk.ctkNoSuchWidget",
    "slicer.vtkMRMLTokenNode()": "there is no slicer.vtkMRMLTokenNode",
    "slicer.util.askUser('')": "slicer.util has no askUser",
    "slicer.app.isTesting()": "qSlicerApplication has no isTesting",
    "getattr(node, 'anything').NoSuchMember": "nothing has a member NoSuchMember",
}


def module(line: str) -> dict[str, str]:
    text = f"""
import ctk, qt, slicer, vtk

class PanelWidget:
    def use(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        {line}
"""
    return {"panel.py": text}


@pytest.mark.parametrize("line", GOOD)
def test_what_exists_passes(table: MemberTable, line: str) -> None:
    assert check_sources(table, module(line), UI) == []


@pytest.mark.parametrize(("line", "fault"), MADE_UP.items())
def test_what_does_not_exist_is_named(table: MemberTable, line: str, fault: str) -> None:
    (found,) = check_sources(table, module(line), UI)
    assert re.fullmatch(rf"panel\.py:\d+: {re.escape(fault)}", found)


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("qMRMLNodeComboBox", "qMRMLVolumeBox", "inputSelector: there is no class qMRMLVolumeBox"),
        ('name="noneEnabled"', 'name="allowNone"', "inputSelector: qMRMLNodeComboBox has no property allowNone"),
        ('name="collapsed"', 'name="currentNode"', "advanced: ctkCollapsibleButton has no property currentNode"),
        ("mrmlSceneChanged", "sceneChanged", "PromptSeg: qMRMLWidget has no signal sceneChanged"),
        ("setMRMLScene", "setScene", "inputSelector: qMRMLNodeComboBox has no slot setScene"),
        ("QVBoxLayout", "QStackLayout", "None: there is no class QStackLayout"),
    ],
)
def test_what_does_not_exist_in_the_ui_is_named(table: MemberTable, right: str, wrong: str, fault: str) -> None:
    assert check_ui(table, UI) == []
    assert right in UI and fault in check_ui(table, UI.replace(right, wrong))


# Reading headers

HEADER = """
// class qCommented : public QWidget {};
class Q_EXPORT qThing : public QWidget, private Ui::Base
{
  Q_OBJECT
  Q_PROPERTY(QList<int> sizes READ sizes WRITE setSizes NOTIFY sizesChanged) /* not this(int) */
public:
  enum Mode { First = 1, Second };
  explicit qThing(QWidget* parent = nullptr);
  QList<int> sizes() const { return this->hidden(1); }
  Q_INVOKABLE vtkMRMLNode* node(const char* text = "; void no();") const;
public slots:
  void setMode(Mode mode);
protected slots:
  void onClicked();
signals:
  void sizesChanged();
private:
  void hidden();
};
class VTK_EXPORT vtkThing : public vtkObject
{
public:
  vtkTypeMacro(vtkThing, vtkObject);
  vtkSetMacro(Radius, double);
  vtkGetObjectMacro(Node, vtkMRMLNode);
  vtkBooleanMacro(Visible, bool);
  virtual vtkSmartPointer<vtkImageData> MakeImage();
#ifndef __VTK_WRAP__
  void NotInPython();
#endif
protected:
  void Hidden();
};
"""


def test_names_in_a_header() -> None:
    classes = read_classes(clean(HEADER))
    assert set(classes) == {"qThing", "vtkThing"}
    widget, thing = classes["qThing"], classes["vtkThing"]
    assert widget.bases == ["QWidget", "Base"] and thing.bases == ["vtkObject"]
    assert widget.properties == {"sizes"}
    assert widget.members == {"sizes", "Mode", "First", "Second", "node", "setMode", "sizesChanged"}
    assert widget.returns == {"node": "vtkMRMLNode"}
    assert thing.members == {"SetRadius", "GetNode", "VisibleOn", "VisibleOff", "MakeImage"}
    assert thing.returns == {"GetNode": "vtkMRMLNode", "MakeImage": "vtkImageData"}


def test_names_that_decorators_add() -> None:
    text = "bool static_qApp_testing() { return true; } int count(qThing* thing, int of) { return of; }"
    assert decorated(text) == [("qApp", "testing"), ("qThing", "count")]


def test_bases_count(table: MemberTable) -> None:
    assert "vtkObject" in table.lineage("vtkMRMLScalarVolumeNode") and "QObject" in table.lineage("qMRMLWidget")
    assert "setToolTip" in table.members("ctkSliderWidget") and "toolTip" in table.properties("ctkSliderWidget")
    assert "connect" in table.members("qMRMLNodeComboBox") and "connect" not in table.members("vtkImageData")
