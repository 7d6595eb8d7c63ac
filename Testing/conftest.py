"""Fixtures that every folder may use."""

pytest_plugins = ["Testing.slicer_harness.fixtures"]
