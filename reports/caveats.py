"""What must be known to read the numbers: a sentence for every warning code that a result may carry."""

from dicom_io.errors import WARNING_SENTENCES
from reports.measurements import NO_LIVER

SENTENCES: dict[str, str] = {
    **{str(code): sentence for code, sentence in WARNING_SENTENCES.items()},
    NO_LIVER: "No liver was found in the images.",
    # A model's code: models and reports meet in dicom_io.segmentation alone
    "LESIONS_TRUNCATED": "More lesions were found than a result can hold; the smallest were left out.",
}


def caveat(code: str) -> str:
    """The warning as it stands in a report; a code that is not known here stands alone."""
    sentence = SENTENCES.get(code)
    return f"Warning: {code}. {sentence}" if sentence else f"Warning: {code}."
