"""What is drawn: slices with their findings, summary pages, pages of the PDF. Pixels, no DICOM objects."""
