"""Derived slices and series -> DICOM files."""
