"""What must be known to read the numbers: a sentence for every warning code that a result may carry."""

from enum import StrEnum

from dicom_io.errors import WARNING_SENTENCES


class FindingsWarning(StrEnum):
    """Facts about the findings that a reader must know. Each has a sentence in `SENTENCES`."""

    NO_LIVER = "NO_LIVER"
    PARTIAL_LIVER = "PARTIAL_LIVER"
    LESION_CUT_OFF = "LESION_CUT_OFF"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    CONTRAST_DOUBTFUL = "CONTRAST_DOUBTFUL"
    LESION_NOT_CERTAIN = "LESION_NOT_CERTAIN"
    PRIORS_NOT_FETCHED = "PRIORS_NOT_FETCHED"
    PRIOR_NOT_COMPARED = "PRIOR_NOT_COMPARED"
    PRIOR_FROM_IMAGES = "PRIOR_FROM_IMAGES"


PARTIAL_LIVER_MM2 = 100.0
"""How much of the liver may lie on the edge of the field of view before it counts as cut off: a tip of 1 cm2."""

LOW_CONFIDENCE_BELOW = 0.6
"""The confidence of a lesion below which it is doubtful; half is where the model says neither."""

NOT_JUDGED = frozenset({"VALUES_DOUBTFUL", "NOT_LIKE_LIVER"})
"""A model's codes that say that lesions are not reported."""
LIVER_UNCERTAIN = "LIVER_UNCERTAIN"
DOUBTFUL_EDGE_MM = 5.0
"""How far from the outline of a liver that the model is unsure of a lesion may be none of the liver."""

ENHANCED_FROM_HU = 75.0
"""The mean value of the liver below which it is not, or hardly, enhanced. Without contrast a liver has 50 to 70 HU; a
portal venous phase adds 50 HU (adequate, J Pers Med 2021 11:1255). An early arterial phase, and fat, look the same."""

SENTENCES: dict[str, str] = {
    **{str(code): sentence for code, sentence in WARNING_SENTENCES.items()},
    FindingsWarning.NO_LIVER: "No liver was found in the images.",
    FindingsWarning.PARTIAL_LIVER: "The liver reaches the edge of the images and may be cut off: its volume, the "
    "tumour burden and the number of lesions may be those of a part.",
    FindingsWarning.LESION_CUT_OFF: "A lesion reaches the edge of the images: it may be larger than measured.",
    FindingsWarning.LOW_CONFIDENCE: "The model is unsure of at least one lesion "
    f"(confidence under {LOW_CONFIDENCE_BELOW:g}).",
    FindingsWarning.CONTRAST_DOUBTFUL: f"The liver's mean value is under {ENHANCED_FROM_HU:g} HU: no contrast medium, "
    "an early phase, or a fatty liver; lesions may be missed or outlined badly.",
    FindingsWarning.LESION_NOT_CERTAIN: "The model is unsure of the liver's outline, and a lesion lies within "
    f"{DOUBTFUL_EDGE_MM:g} mm of it: it may not be in the liver. Severity, criteria and targets leave it out.",
    FindingsWarning.PRIORS_NOT_FETCHED: "Earlier results or images of the patient could not be fetched from an "
    "archive, or could not be used: the comparison of lesions is missing or incomplete.",
    FindingsWarning.PRIOR_NOT_COMPARED: "An earlier study of the patient was found, but could not be registered with "
    "this one: it is not known whether lesions are new or have grown.",
    FindingsWarning.PRIOR_FROM_IMAGES: "The earlier study had no results: its images were segmented only for "
    "this comparison. Nobody has reviewed that segmentation: check which lesions are new or have grown.",
    # A model's codes: models and reports meet in dicom_io.segmentation alone
    "LESIONS_TRUNCATED": "More lesions were found than a result can hold; the smallest were left out.",
    "VALUES_DOUBTFUL": "The values of the images do not look like Hounsfield units: almost none is typical of fat "
    "or air. The segmented liver may be wrong. Lesions are not reported.",
    "NOT_LIKE_LIVER": "The segmented region does not have the values of a liver: the images may show another part of "
    "the body. Lesions are not reported.",
    "LIVER_VOLUME_DOUBTFUL": "The segmented liver has less than 400 or more than 5000 mL: part of the liver may be "
    "missing, or other tissue may be included.",
    "LIVER_UNCERTAIN": "The model is unsure of the liver's outline: its volume and the tumour burden may be wrong. "
    "The images may differ from the training images, or may show another part of the body.",
}


def caveat(code: str) -> str:
    """The warning as it stands in a report; a code that is not known here stands alone."""
    sentence = SENTENCES.get(code)
    return f"Warning: {code}. {sentence}" if sentence else f"Warning: {code}."
