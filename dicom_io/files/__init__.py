"""One DICOM file: its bytes, header, values and identity. Knows nothing of series or of the network."""
