"""DICOM files -> CT series and slices in HU."""
