"""The DICOM objects that are sent: one module an object. Knows highdicom, templates and findings; draws nothing."""
