"""Which examinations of different collections are of one patient.

LiTS volumes 28 to 47 are the patients 1 to 20 of 3D-IRCADb-01, in order (Bilic et al., The Liver Tumor Segmentation
Benchmark, 2023), and Task03_Liver of the Medical Segmentation Decathlon is LiTS under its own numbers.
"""

import re

LITS, IRCADB, CHAOS_CT, CHAOS_MR = "LiTS", "3D-IRCADb-01", "CHAOS CT", "CHAOS MR"
MSD_LIVER = "MSD Task03_Liver"
LITS_OF_IRCADB = range(28, 48)

FOLDER_NAMES = {
    IRCADB: r"(?:3d)?[-_]?ircadb.*?(\d+)",
    CHAOS_CT: r"chaos[-_ ]?ct[-_ ]?(?:set)?[-_ ]?(\d+)",
    LITS: r"lits[-_ ]?(?:volume)?[-_ ]?(\d+)(?:[-_ ].*)?",
}
"""How people name the folder of one case of a collection, and where its number stands."""
FOLDERS_OF_CASES = {CHAOS_MR: r"chaos[-_ ]?mr.*"}
"""And the folder of all its cases, where their own have a number alone."""


def lits_patient(number: int) -> str:
    """The patient of a LiTS volume."""
    if number in LITS_OF_IRCADB:
        return ircadb_patient(number - LITS_OF_IRCADB.start + 1)
    return f"{LITS}/{number}"


def ircadb_patient(number: int) -> str:
    """The patient of a case of 3D-IRCADb-01."""
    return f"{IRCADB}/{number}"


def known_patient(folder: str) -> tuple[str, str] | None:
    """Collection and patient that a folder's name tells; None where it tells none."""
    for collection, pattern in FOLDER_NAMES.items():
        if match := re.fullmatch(pattern, folder, re.IGNORECASE):
            number = int(match[1])
            known = {IRCADB: ircadb_patient, LITS: lits_patient}.get(collection)
            return collection, known(number) if known else f"{collection}/{number}"
    return None


def known_collection(folder: str) -> str | None:
    """The collection that the name of the folder of its cases tells; None where it tells none."""
    for collection, pattern in FOLDERS_OF_CASES.items():
        if re.fullmatch(pattern, folder, re.IGNORECASE):
            return collection
    return None
