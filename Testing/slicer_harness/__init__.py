"""3D Slicer's window without a Slicer binary.

Real: MRML, segmentations, the segment editor's logic, slice and 3-D displayable managers, `slicer.util` (slicer-core).
Stand-ins on PySide6: `qt`, `ctk`, the qMRML widgets, `slicer.app`. They accept what Slicer accepts and nothing more.
Not as in Slicer: the segment editor's effects other than Paint and Erase are names, views render when they are looked
at and not on their own, nothing is translated, and the order of signals, fonts and styles is Qt's and not Slicer's.

Nothing is imported or started before a test asks for it (fixtures.py). With PROMPTSEG_SLICER_PYTHON set to the folder
`Base/Python` of a Slicer checkout, its own base classes and parameter node wrapper are used instead of fallback/.
"""
