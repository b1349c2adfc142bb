"""What a segmentation means, as numbers and words: sizes, values, shapes, regions, severity, course and response. No DICOM."""
