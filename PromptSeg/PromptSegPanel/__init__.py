"""The panel of the Slicer module PromptSeg, one file per part."""
