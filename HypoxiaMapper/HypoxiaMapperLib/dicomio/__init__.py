"""DICOM in: scan a folder, read image series, PET facts, structure sets and registrations."""
