"""Associations with DICOM peers: the Storage and Verification SCP, and the SCU. `pynetdicom` is imported here alone.

Knows bytes, statuses and AE titles. Must not know the ledger, jobs or what a received instance is for.

pynetdicom is configured for the whole process, once, here:

- its log goes nowhere: it prints identifiers and exceptions that quote data sets (PHI). What is worth knowing
  leaves this folder as an error, a status or a call-back;
- files are sent as they are, without decoding the data set;
- a UID of a request is taken as it comes: whoever stores the instance decides what an odd one means;
- its timers go by the monotonic clock: a wall clock that is set forward would break off whatever is open.
"""

import logging
import time
from types import SimpleNamespace

from pynetdicom import _config, timer

_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
_config.STORE_SEND_CHUNKED_DATASET = True
_config.VALIDATORS["UI"] = lambda value: (True, "")
logging.getLogger("pynetdicom").propagate = False
timer.time = SimpleNamespace(time=time.monotonic)  # type: ignore[attr-defined,assignment]
