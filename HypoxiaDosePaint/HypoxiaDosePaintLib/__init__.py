"""Hypoxia map to dose-painting target to DICOM. Research use only."""
