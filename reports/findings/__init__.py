"""What a segmentation means: sizes, values, shapes, regions, severity, course and response. No DICOM."""
