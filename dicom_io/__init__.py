"""The standard: files, series, geometry, the network.

Knows DICOM and NIfTI, patient space and pixels. Must not know jobs, models or findings, and imports none of
the other folders. `pynetdicom` is imported in `dicom_io/network/` alone.
"""

import logging
import warnings

# pydicom quotes the values it doubts, and a patient's name may be one of them. What is wrong with a file is said by
# our own errors, without quoting.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").propagate = False
