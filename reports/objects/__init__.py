"""The DICOM objects that are sent: one module an object. highdicom is imported here, and where an envelope or a code is made."""
