"""Every coded concept that a result uses; nothing else in the project spells a code.

SNOMED CT codes carry the designator SCT, never the retired SRT. Meanings are those of PS3.16; where it has no
concept, ours stand under the private designator 99PORTA, which the objects declare.
"""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.color import CIELabColor
from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99PORTA"

# What is segmented: categories of CID 7150, types of CID 7151 and 7159
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LIVER = Code("10200004", "SCT", "Liver")
MASS = Code("4147007", "SCT", "Mass")
"""A lesion, without a claim on its histology."""

# How: CID 7162, CID 100
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
MR_PROCEDURE = Code("25056-3", "LN", "MRI unspecified body region")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
"""The body part that a rejected series of another modality reports on."""

# Document: CID 7021, TID 1500
ONCOLOGY_MEASUREMENT_REPORT = Code("126001", "DCM", "Oncology Measurement Report")
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
DEVICE = Code("121007", "DCM", "Device")
SUMMARY = Code("121111", "DCM", "Summary")
FINDING = Code("121071", "DCM", "Finding")
COMMENT = Code("121106", "DCM", "Comment")

# Measurements: CID 218, CID 7469, CID 7472, and their modifiers
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
OHIF_LONG_AXIS = Code("103339001", "SCT", "Long Axis")
OHIF_SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
"""The same concepts as OHIF spells them: it compares meanings, capitals too."""
DIAMETER_3D = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
ATTENUATION_COEFFICIENT = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
TENTH_PERCENTILE = Code("371890005", "SCT", "10th Percentile Value of population")
MEDIAN = Code("373099004", "SCT", "Median")
NINETIETH_PERCENTILE = Code("371887004", "SCT", "90th Percentile Value of population")
MESH_VOLUME = Code("RNU0", "IBSI", "Volume of Mesh")
MESH_SURFACE = Code("C0JK", "IBSI", "Surface Area of Mesh")
SPHERICITY = Code("QCFX", "IBSI", "Sphericity")
SKEWNESS = Code("KE2A", "IBSI", "Intensity-based Skewness")
KURTOSIS = Code("IPH6", "IBSI", "Intensity-based Excess Kurtosis")
"""Of the values themselves; PS3.16 names only those of the histogram (88K1, C3I7), which bins would change."""
HISTOGRAM_ENTROPY = Code("TLU2", "IBSI", "Intensity Histogram Entropy")
FIXED_BINS = Code("FIXED_BINS", PRIVATE_SCHEME, "Histogram with bins of 25 HU from -1000 HU")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
"""The confidence, in percent as PS3.16 wants it."""
SEVERITY = Code("246112005", "SCT", "Severity")
SEVERITY_LEVELS = {
    "none": Code("260413007", "SCT", "None"),
    "low": Code("62482003", "SCT", "Low"),
    "moderate": Code("6736007", "SCT", "Moderate"),
    "high": Code("75540009", "SCT", "High"),
}
"""The levels of docs/severity.md."""
TARGET_DIAMETER_SUM = Code("TARGET_SUM", PRIVATE_SCHEME, "Sum of target diameters (RECIST 1.1)")
MILAN = Code("MILAN", PRIVATE_SCHEME, "Milan criteria, computed from sizes and number alone")
UP_TO_SEVEN = Code("UP_TO_SEVEN", PRIVATE_SCHEME, "Up-to-seven criterion, computed from sizes and number alone")
YES = Code("373066001", "SCT", "Yes")
NO = Code("373067005", "SCT", "No")
LESION_COURSE = Code("LESION_COURSE", PRIVATE_SCHEME, "Course of the lesion since the earlier study")
COURSES = {
    "new": Code("NEW", PRIVATE_SCHEME, "New"),
    "grown": Code("15454001", "SCT", "Increased size"),
    "stable": Code("STABLE", PRIVATE_SCHEME, "Stable in size"),
    "shrunk": Code("19776001", "SCT", "Decreased size"),
    "merged": Code("MERGED", PRIVATE_SCHEME, "Merged of several lesions"),
    "split": Code("SPLIT", PRIVATE_SCHEME, "Split from one lesion"),
    "outside": Code("OUTSIDE", PRIVATE_SCHEME, "Not within the images of the earlier study"),
}
"""The states of docs/follow-up.md."""
DIAMETER_CHANGE = Code("DIAMETER_CHANGE", PRIVATE_SCHEME, "Change of the long axis since the earlier study")
VOLUME_CHANGE = Code("VOLUME_CHANGE", PRIVATE_SCHEME, "Change of the volume since the earlier study")
DOUBLING_TIME = Code("DOUBLING_TIME", PRIVATE_SCHEME, "Volume doubling time")
CURRENT_RESPONSE = Code("112048", "DCM", "Current Response")
TARGET_RESPONSES = {
    "CR": Code("112041", "DCM", "Target Lesion Complete Response"),
    "PR": Code("112042", "DCM", "Target Lesion Partial Response"),
    "PD": Code("112043", "DCM", "Target Lesion Progressive Disease"),
    "SD": Code("112044", "DCM", "Target Lesion Stable Disease"),
}
NON_TARGET_RESPONSES = {
    "CR": Code("112045", "DCM", "Non-Target Lesion Complete Response"),
    "non-CR/non-PD": Code("112046", "DCM", "Non-Target Lesion Incomplete Response or Stable Disease"),
    "PD": Code("112047", "DCM", "Non-Target Lesion Progressive Disease"),
}
"""CID 6143, of the lesions alone; a suggestion, which a comment says."""
OVERALL_RESPONSE = Code("OVERALL_RESPONSE", PRIVATE_SCHEME, "Overall response (RECIST 1.1), suggested")
OVERALL_RESPONSES = {
    "CR": Code("C4870", "NCIt", "Complete Remission"),
    "PR": Code("C18058", "NCIt", "Partial Remission"),
    "SD": Code("C18213", "NCIt", "Stable Disease"),
    "PD": Code("C35571", "NCIt", "Progressive Disease"),
    "non-CR/non-PD": Code("NEITHER", PRIVATE_SCHEME, "Neither complete response nor progressive disease"),
}
NEW_LESIONS = Code("NEW_LESIONS", PRIVATE_SCHEME, "New lesions that count for RECIST 1.1")
RECIST_TARGET = Code("RECIST_TARGET", PRIVATE_SCHEME, "Target lesion (RECIST 1.1)")
TARGETS = {number: Code(f"T{number}", PRIVATE_SCHEME, f"Target {number}") for number in (1, 2)}
NUMBER_OF_LESIONS = Code("246206008", "SCT", "Number of lesions")
TUMOR_BURDEN = Code("TUMOR_BURDEN", PRIVATE_SCHEME, "Tumor burden (lesion volume per liver volume)")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
PROCESSING_RESULT = Code("PROCESSING", PRIVATE_SCHEME, "Processing result")

# Units
MILLILITER = Code("mL", "UCUM", "milliliter")
MILLIMETER = Code("mm", "UCUM", "millimeter")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
BIT = Code("bit", "UCUM", "bit")
DAY = Code("d", "UCUM", "day")
PERCENT = Code("%", "UCUM", "percent")
NO_UNITS = Code("1", "UCUM", "no units")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")

# RecommendedDisplayCIELabValue: one of the liver, one for each lesion
LIVER_COLOUR = CIELabColor(l_star=62.0, a_star=-48.0, b_star=42.0)
LESION_COLOUR = CIELabColor(l_star=55.0, a_star=72.0, b_star=48.0)
LESION_COLOURS = (
    LESION_COLOUR,
    *(
        CIELabColor.from_rgb(*rgb)
        for rgb in ((0, 158, 255), (255, 140, 0), (200, 90, 255), (0, 220, 220), (255, 120, 190), (170, 120, 70))
    ),
)
"""Red, blue, orange, violet, cyan, pink, brown, and again: apart from the liver and from the calipers too."""


def lesion_colour(number: int) -> CIELabColor:
    """Return the colour of a lesion, which it keeps with its number."""
    return LESION_COLOURS[(number - 1) % len(LESION_COLOURS)]


def private_scheme() -> CodingSchemeIdentificationItem:
    """The item of CodingSchemeIdentificationSequence that declares 99PORTA (PS3.3 section C.12.1)."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME,
        name="Porta Hepatis private codes",
        version="1",
        responsible_organization="Porta Hepatis",
    )
