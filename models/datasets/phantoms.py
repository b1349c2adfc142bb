"""Phantoms as cases: made from a seed when they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import models.phantom
from models.datasets.cases import Case, CaseSource
from models.phantom import TRAINING_SEEDS, training_phantom

COLLECTION = "phantoms"
PHANTOM_TRUTH = "truth.json"
"""Beside a phantom in files; it says the seed."""
TEST_SEEDS = range(TRAINING_SEEDS.stop, TRAINING_SEEDS.stop + 1000)
"""Of phantoms that evaluation may draw; training never does."""


@dataclass(frozen=True)
class PhantomSource:
    """The phantom of a seed; each seed is a patient, and its CT and its MR are of the same."""

    seed: int
    modality: str = "CT"

    @property
    def name(self) -> str:
        """`phantom-SEED`, or `phantom-mr-SEED`."""
        return f"phantom-{self.seed}" if self.modality == "CT" else f"phantom-{self.modality.lower()}-{self.seed}"

    @property
    def patient(self) -> str:
        """The patient; no two seeds share one."""
        return phantom_patient(self.seed)

    @property
    def collection(self) -> str:
        """The collection; the same for all."""
        return COLLECTION

    @property
    def fingerprint(self) -> str:
        """Hash the seed and the code that draws it: other code draws another phantom."""
        return sha256(f"{self.seed} {self.modality} {_code()}".encode()).hexdigest()

    def read(self) -> Case:
        """Draw it."""
        phantom = training_phantom(self.seed, modality=self.modality)
        return Case(self.name, self.patient, phantom.volume, phantom.truth)


def phantom_patient(seed: int) -> str:
    """The patient of a seed, whether a phantom is drawn or was written into files before."""
    return f"{COLLECTION}/{seed}"


def is_for_tests(source: CaseSource) -> bool:
    """True for a phantom of TEST_SEEDS, drawn or in files."""
    collection, _, seed = source.patient.rpartition("/")
    return collection == COLLECTION and seed.isdecimal() and int(seed) in TEST_SEEDS


def phantom_sources(
    count: int, seeds: Sequence[int] = TRAINING_SEEDS, *, modality: str = "CT"
) -> tuple[PhantomSource, ...]:
    """The first `count` of the seeds that training may draw, or of others (TEST_SEEDS)."""
    if not 0 <= count <= len(seeds):
        raise ValueError(f"from 0 to {len(seeds)} phantoms")
    return tuple(PhantomSource(seed, modality) for seed in seeds[:count])


@cache
def _code() -> str:
    digest = sha256()
    for path in sorted(Path(models.phantom.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
