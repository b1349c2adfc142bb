"""Arrays in, labels out: architectures, weights, inference, training.

The only folder that imports torch. Sees `dicom_io` types (Geometry, Volume, Segmentation); knows no findings,
no reports, no jobs, and never imports pydicom or highdicom itself.
"""
