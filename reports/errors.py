"""What can go wrong between a segmentation and the objects that carry it.

    ReportError
    ├── GeometryNotProved(detail)     a written SEG that, read back, does not say what the findings say
    ├── SourceUnusable(detail)        a source header that no result can be derived from
    ├── LiversDiffer(detail)          an earlier study whose liver cannot be laid over this one's
    ├── ReportUnreadable(detail)      an earlier SR that says nothing of a liver's lesions
    └── EvaluationUnreadable(detail)  a file of an evaluation or a training run that charts cannot be drawn from

Messages hold UIDs, numbers and keywords; never an attribute of a patient.
"""

from typing import ClassVar


class ReportError(Exception):
    """Root of this folder's errors. `exit_code`: of a command that ends with one; 2 where its input is wrong."""

    exit_code: ClassVar[int] = 1


class GeometryNotProved(ReportError):
    """The SEG on disk does not lie, voxel by voxel, where the segmentation lies: it must not be sent."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class SourceUnusable(ReportError):
    """The source headers lack what a SEG or SR cannot do without."""

    exit_code = 2

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class LiversDiffer(ReportError):
    """The livers of two studies do not fit, so that nothing in them can be compared."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class ReportUnreadable(ReportError):
    """An object that is no SR with the findings of a liver."""

    exit_code = 2

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class EvaluationUnreadable(ReportError):
    """A file that a chart or the comparison needs is missing, damaged, or of another schema."""

    exit_code = 2

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)
