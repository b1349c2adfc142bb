"""What can go wrong between an array and its labels.

    ModelError
    ├── UnknownModel(name)      no card of that name in models/pretrained/ or the configuration
    ├── CardInvalid(detail)     the card of a model lacks a key, has one too many, or a value that cannot be
    ├── WeightsCorrupt(detail)  the weights file does not have the sha256 of its card, or not its layers
    ├── WrongModality(detail)   the card of the model does not name the volume's modality
    ├── DeviceUnavailable       CUDA was asked for and is not there
    ├── DeviceLost              the GPU failed at work; this process cannot use it again
    ├── CompilationFailed       torch.compile was asked for, and does not work on this machine
    ├── NotCalibrated(detail)   confidences cannot be calibrated by what is there
    ├── CaseUnreadable(detail)  a case for training or evaluation, or its folder, is missing, damaged or mismatched
    ├── SplitInvalid(detail)    a split names cases that are not there, or has a patient on two sides
    └── RunMismatch(detail)     the folder of a run belongs to another, or cannot be written or read

Messages hold names and file names; never an attribute of a patient.
"""

import struct
import zipfile
import zlib
from typing import ClassVar

UNFORESEEN = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
"""What a reader, or a library below it, may raise at a file that nobody thought of: a fault of one case alone."""


class ModelError(Exception):
    """Root of this folder's errors. `exit_code`: of a command that ends with one; 2 where its input is wrong."""

    exit_code: ClassVar[int] = 1


class UnknownModel(ModelError):
    """There is no model of that name."""

    exit_code = 2


class CardInvalid(ModelError):
    """The card is missing, or lacks a key, has one that is unknown, or a value that cannot be."""

    exit_code = 2


class WeightsCorrupt(ModelError):
    """The weights are not those that their card describes."""

    exit_code = 2


class WrongModality(ModelError):
    """The model was not trained for this modality."""

    exit_code = 2


class DeviceUnavailable(ModelError):
    """The device that was asked for is not on this machine."""

    exit_code = 2


class DeviceLost(ModelError):
    """The GPU failed while it computed. A process that has seen that must end; a new one may find it well again."""


class CompilationFailed(ModelError):
    """torch.compile was asked for and lacks something: a C++ compiler, most often."""


class NotCalibrated(ModelError):
    """A calibration cannot be made: too few lesions, or an evaluation of other weights."""

    exit_code = 2


class CaseUnreadable(ModelError):
    """A file that training or evaluation needs cannot be read."""

    exit_code = 2


class SplitInvalid(ModelError):
    """The parts of a split cannot be those of these cases."""

    exit_code = 2


class RunMismatch(ModelError):
    """The folder for a run, of training or evaluation, cannot be used for it."""

    exit_code = 2
