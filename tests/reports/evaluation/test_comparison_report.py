"""The page: complete in its folder, nothing fetched from elsewhere, its numbers those of the evaluations."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reports.evaluation.comparison_report import Entry, Picture, Told, write_page
from reports.evaluation.learning_curves import Learning

TOLD = Told(
    title="Two <networks>",
    command="porta compare --data <folder> -o out",
    software="porta-hepatis 0.0.0",
    facts=(("split", "3 training, 1 validation, 6 test cases"),),
    notes=("Made-up numbers.",),
)
COMPLEXITY = {
    "architecture": "resnet50",
    "parameters": 25_458_755,
    "rows": 167,
    "columns": 167,
    "flops": 8_532_680_576,
    "cpu": {
        "device": "a processor",
        "threads": 2,
        "precision": "bfloat16",
        "batch": 9,
        "seconds_per_slice": 0.03,
        "cpu_seconds_per_slice": 0.06,
        "peak_memory_mb": 734.0,
    },
    "cuda": None,
}


class Sources(HTMLParser):
    """What a page refers to, and its words; complains of a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.anchors: set[str] = set()
        self.words = ""
        self.feed(text)
        assert not self.tags

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        assert tag not in ("script", "link", "iframe")
        if tag == "img":
            self.images.append((found["src"], found["alt"]))
        self.anchors |= {found["href"].removeprefix("#")} if tag == "a" else set()
        self.ids |= {found["id"]} if "id" in found else set()
        if tag not in ("img", "meta", "br"):
            self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.tags.pop() == tag

    def handle_data(self, data) -> None:
        self.words += f" {data.strip()}"


@pytest.fixture
def entries(make_evaluation, tmp_path) -> list[Entry]:
    """One model with everything, one with nothing but its evaluation."""
    picture = tmp_path / "overlay.png"
    picture.write_bytes(b"a picture")
    steps = np.arange(1.0, 21.0)
    learning = Learning(np.stack([steps, 1 / steps], axis=1), np.array([[10.0, 0.5, np.nan], [20.0, 0.6, 0.2]]))
    whole = Entry(
        "resnet50",
        make_evaluation("resnet50"),
        COMPLEXITY,
        learning,
        {"steps": 20, "s a step": 1.25},
        "phantoms (3 cases)",
        "Apache-2.0: trained on phantoms alone",
        (Picture(picture, "case-1"),),
    )
    bare = Entry("vgg16", make_evaluation("vgg16", skill=0.8), None, None, {}, "nothing", "none")
    return [whole, bare]


def test_the_page_needs_nothing_but_its_folder(entries, tmp_path) -> None:
    """Every picture is there and described; no script, no style sheet, no address."""
    page = write_page(entries, tmp_path / "out", TOLD)
    found = Sources(page.read_text())
    assert len(found.images) == 13
    for source, alt in found.images:
        assert not Path(source).is_absolute()
        assert (page.parent / source).stat().st_size > 0
        assert len(alt) > 10
    assert "http" not in page.read_text()
    assert found.anchors <= found.ids


def test_the_page_says_what_a_reader_must_know(entries, tmp_path) -> None:
    """The command, the use, the licences, the counts; and what a name says is text, not HTML."""
    words = Sources(write_page(entries, tmp_path / "out", TOLD).read_text()).words
    for said in (
        "For research use, not a diagnosis.",
        "porta compare --data <folder> -o out",
        "Two <networks>",
        "Apache-2.0: trained on phantoms alone",
        "6 cases of 3 patients",
        "Made-up numbers.",
        "0000000000000000",
        "25.5",
        "1.25",
    ):
        assert said in words, said


def test_the_numbers_are_those_of_the_evaluations(entries, tmp_path) -> None:
    """For scripts: everything but the points of the curves."""
    out = tmp_path / "out"
    write_page(entries, out, TOLD)
    numbers = json.loads((out / "comparison.json").read_text())
    assert [model["label"] for model in numbers["models"]] == ["resnet50", "vgg16"]
    assert numbers["models"][0]["evaluation"]["summary"] == entries[0].evaluation["summary"]
    assert numbers["models"][0]["complexity"]["flops"] == 8_532_680_576
    assert numbers["research_use_only"] is True
    assert "roc" not in numbers["models"][0]["evaluation"]


def test_a_page_that_is_drawn_again_replaces_the_first(entries, tmp_path) -> None:
    """Pictures of a model that is not compared any more do not stay."""
    out = tmp_path / "out"
    first = write_page(entries, out, TOLD).read_text()
    assert write_page(entries, out, TOLD).read_text() == first
    write_page(entries[1:], out, TOLD)
    assert not list(out.glob("worst/*"))
    assert not list(out.rglob(".*"))


def test_costs_under_other_conditions_are_named_and_not_ranked(entries, tmp_path) -> None:
    """Two threads are quicker than one, whichever network they compute; how many slices at a time is said too."""
    slower = COMPLEXITY | {"cpu": COMPLEXITY["cpu"] | {"threads": 1, "seconds_per_slice": 0.05}}
    measured = [entries[0], replace(entries[1], complexity=slower)]
    page = write_page(measured, tmp_path / "out", TOLD).read_text()
    words = " ".join(Sources(page).words.split())
    both = "one slice of 167 × 167 pixels, as the fine pass has them; CPU: a processor"
    assert f"resnet50: {both}, 2 threads, bfloat16, 9 slices at a time" in words
    assert f"vgg16: {both}, 1 thread, bfloat16, 9 slices at a time" in words
    costs = page[page.index("Time, CPU") :]
    assert 'class="best"' not in costs[: costs.index("</tr>")]


def test_nobody_leads_by_other_cases(entries, tmp_path) -> None:
    """The mean of one is over five of the six."""
    assert "Highest mean liver Dice" in write_page(entries, tmp_path / "out", TOLD).read_text()
    entries[1].evaluation["cases"][0]["liver"]["dice"] = None
    page = write_page(entries, tmp_path / "out", TOLD).read_text()
    assert "Highest mean liver Dice" not in page
    assert "n = 5" in page
