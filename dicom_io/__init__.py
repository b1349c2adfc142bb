"""The standard: files, series, geometry, the network.

Knows DICOM and NIfTI, patient space and pixels. Must not know jobs, models or findings, and imports none of
the other folders. `pynetdicom` is imported in `dicom_io/network/` alone.
"""
