"""Which SR supersedes which, whatever a destination took before and takes now."""

from collections.abc import Collection, Iterable
from itertools import chain, combinations

import pytest

from daemon.worker.predecessors import Predecessors, superseded_forms
from daemon.worker.requests import Replaced, SentSr
from reports.objects.kinds import FORMS

ANSWERS = (
    *("sr", "sr_labelmap", "sr_comprehensive"),
    *("sr_combined", "sr_combined_comprehensive"),
    *("sr_bidirectional", "sr_bidirectional_comprehensive"),
)
VERDICTS = ("verdict", "verdict_comprehensive")

SETS = [set(names) for names in chain.from_iterable(combinations(ANSWERS, size) for size in range(1, len(ANSWERS) + 1))]

BOTH = ("sr", "sr_bidirectional")

TABLE: list[tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = [
    # the same as before: each its own
    (("sr",), {"sr": ("sr",)}),
    (("sr_combined",), {"sr_combined": ("sr_combined",)}),
    (("sr_bidirectional",), {"sr_bidirectional": ("sr_bidirectional",)}),
    (BOTH, {"sr": ("sr",), "sr_bidirectional": ("sr_bidirectional",)}),
    # another kind: each way between the three, and one for two
    (("sr",), {"sr_combined": ("sr",)}),
    (("sr",), {"sr_bidirectional": ("sr",)}),
    (("sr_combined",), {"sr": ("sr_combined",)}),
    (("sr_combined",), {"sr_bidirectional": ("sr_combined",)}),
    (("sr_bidirectional",), {"sr": ("sr_bidirectional",)}),
    (("sr_bidirectional",), {"sr_combined": ("sr_bidirectional",)}),
    (BOTH, {"sr_combined": BOTH}),
    (BOTH, {"sr": BOTH}),
    (BOTH, {"sr_bidirectional": BOTH}),
    (("sr_combined",), {"sr": ("sr_combined",), "sr_bidirectional": ("sr_combined",)}),
    (("sr_bidirectional",), {"sr": (), "sr_bidirectional": ("sr_bidirectional",)}),
    (("sr",), {"sr": ("sr",), "sr_bidirectional": ()}),
    # another form: the nearest one
    (("sr",), {"sr_labelmap": ("sr",)}),
    (("sr",), {"sr_comprehensive": ("sr",)}),
    (BOTH, {"sr_comprehensive": ("sr",), "sr_bidirectional_comprehensive": ("sr_bidirectional",)}),
    (BOTH, {"sr_combined_comprehensive": BOTH}),
    (("sr_combined",), {"sr_combined_comprehensive": ("sr_combined",)}),
    # two destinations of which one changes: what is new there has the place of what there was
    (("sr",), {"sr": ("sr",), "sr_labelmap": ("sr",)}),
    (("sr",), {"sr": ("sr",), "sr_combined": ("sr",)}),
    (BOTH, {"sr": ("sr",), "sr_bidirectional": ("sr_bidirectional",), "sr_combined": BOTH}),
    (("sr_combined",), {"sr_combined": ("sr_combined",), "sr_bidirectional": ("sr_combined",)}),
    (("sr", "sr_combined"), {"sr": ("sr", "sr_combined")}),
    (("sr", "sr_combined"), {"sr_combined": ("sr", "sr_combined")}),
    (("sr", "sr_combined"), {"sr_labelmap": ("sr",), "sr_combined": ("sr_combined",)}),
    (("sr", "sr_comprehensive"), {"sr": ("sr",), "sr_labelmap": ("sr",), "sr_comprehensive": ("sr_comprehensive",)}),
    # two destinations of which both change: by the class of SR, and where it is given no more by what is left
    (("sr", "sr_comprehensive"), {"sr_combined": ("sr",), "sr_combined_comprehensive": ("sr_comprehensive",)}),
    (("sr_labelmap", "sr_comprehensive"), {"sr_combined_comprehensive": ("sr_labelmap", "sr_comprehensive")}),
    (
        ("sr_labelmap", "sr_comprehensive"),
        {"sr_combined_comprehensive": ("sr_comprehensive",), "sr_combined": ("sr_labelmap",)},
    ),
    # a verdict: each that is new, in its class; but an answer that followed it had superseded it
    (("verdict",), {"verdict": ("verdict",)}),
    (("verdict",), {"verdict_comprehensive": ("verdict",)}),
    (("verdict",), {"sr": ("verdict",)}),
    (("verdict",), {"sr_combined": ("verdict",)}),
    (("verdict",), {"sr": ("verdict",), "sr_bidirectional": ("verdict",)}),
    (("verdict",), {"sr": ("verdict",), "sr_comprehensive": ("verdict",)}),
    (VERDICTS, {"sr": ("verdict",), "sr_comprehensive": ("verdict_comprehensive",)}),
    (VERDICTS, {"sr": VERDICTS}),
    (("verdict", "sr"), {"sr": ("sr",)}),
    (("verdict", "sr"), {"verdict": ("verdict",)}),
    (("sr", "sr_combined", "sr_bidirectional"), {"verdict": ()}),
]


def superseded_names(name: str, names: Collection[str], sent: Iterable[str]) -> tuple[str, ...]:
    """`superseded_forms` by the forms' names."""
    found = superseded_forms(FORMS[name], {FORMS[now] for now in names}, [FORMS[before] for before in sent])
    return tuple(form.name for form in found)


@pytest.mark.parametrize(("sent", "now"), TABLE, ids=[f"{'+'.join(sent)} to {'+'.join(now)}" for sent, now in TABLE])
def test_what_is_superseded(sent: tuple[str, ...], now: dict[str, tuple[str, ...]]):
    assert {name: superseded_names(name, now, sent) for name in now} == now


@pytest.mark.parametrize("sent", SETS, ids=lambda names: "+".join(sorted(names)))
def test_nothing_goes_on_looking_current(sent: set[str]):
    """Whatever was sent and whatever is given now: each SR is superseded, and what is still given by itself."""
    for now in SETS:
        found = {name: superseded_names(name, now, sorted(sent)) for name in now}
        assert set(chain.from_iterable(found.values())) == sent
        assert all(name in found[name] for name in sent & now)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_answer_takes_a_verdict_back(verdict: str):
    for now in SETS:
        assert all(superseded_names(name, now, [verdict]) == (verdict,) for name in now)


def job(*srs: tuple[str, int]) -> Replaced:
    return Replaced(tuple(SentSr(FORMS[name], volume, f"1.{volume}", f"2.{volume}") for name, volume in srs))


def found(replaced: Replaced, name: str, volumes: tuple[int, ...]) -> list[list[tuple[str, int]]]:
    """By volume, what is superseded."""
    srs = [Predecessors("", volumes, (replaced,)).of(FORMS[name], {FORMS[name]}, volume) for volume in volumes]
    return [[(sr.form.name, sr.volume_index) for sr in of_volume] for of_volume in srs]


def test_volume_by_volume():
    """Each name by itself, as a volume without lesions had no diameters; with none in common the first by the first."""
    before = job(("sr", 0), ("sr", 1), ("sr_bidirectional", 1))
    assert found(before, "sr_combined", (0, 1)) == [[("sr", 0)], [("sr", 1), ("sr_bidirectional", 1)]]
    assert found(before, "sr_combined", (2, 3)) == [[("sr", 0), ("sr_bidirectional", 1)], []]
    assert found(job(("verdict", 0)), "sr", (1, 2)) == [[("verdict", 0)], []]


def test_all_jobs_are_told_of():
    """The earlier revision, and the other series that the job takes the place of."""
    predecessors = Predecessors("1.2.3", (0,), (job(("sr", 0), ("sr_bidirectional", 0)), job(("verdict", 0))))
    srs = predecessors.of(FORMS["sr_combined"], {FORMS["sr_combined"]}, 0)
    assert [sr.form.name for sr in srs] == ["sr", "sr_bidirectional", "verdict"]
    references = predecessors.references(srs)
    assert {str(ds.StudyInstanceUID) for ds in references} == {"1.2.3"}
    assert [(str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)) for ds in references] == [("1.0", "2.0")] * 3
