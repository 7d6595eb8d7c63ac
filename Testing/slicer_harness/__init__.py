"""3D Slicer's window without a Slicer binary.

Real: MRML, segmentations, the segment editor's logic, slice and 3-D displayable managers (slicer-core).
Stand-ins on PySide6: `qt`, `ctk`, the qMRML widgets, `slicer.app`. They accept what Slicer accepts and nothing more.
Nothing is imported or started before a test asks for it (see fixtures.py).
"""
