"""What a segmentation means: findings, codes, SEG, SR, overlays, and the proof that they lie where they should.

Knows `dicom_io` and how results are said in DICOM. Must not know models, jobs or the network, and never
imports torch. `highdicom` is imported here alone.
"""
