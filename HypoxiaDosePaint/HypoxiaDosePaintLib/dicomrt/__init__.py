"""DICOM out: RTSTRUCT, RTPLAN, RTDOSE, SEG, Parametric Map, and the proof by reading them again."""
