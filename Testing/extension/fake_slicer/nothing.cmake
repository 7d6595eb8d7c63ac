# Included where Slicer would set up the build, or package it.
