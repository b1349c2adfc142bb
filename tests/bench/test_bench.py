"""Each bench runs in its smallest form, ends by itself, and prints its ratio."""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RATIO = re.compile(r"^ratio (\d+\.\d\d)  \(.+\)$", re.MULTILINE)


def ratios(script: str, *options: str) -> list[float]:
    """The ratios that a bench prints."""
    bench = subprocess.run(
        [sys.executable, f"bench/{script}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert bench.returncode == 0, bench.stdout + bench.stderr
    return printed(bench.stdout)


def printed(text: str) -> list[float]:
    """The ratios in what a bench printed; there is one at least."""
    found = RATIO.findall(text)
    assert found, text
    return [float(ratio) for ratio in found]


@pytest.fixture
def ratios_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[float]]:
    """`ratios` in this process, which has imported already what would take longer than the bench."""

    def run(script: str, *options: str) -> list[float]:
        monkeypatch.syspath_prepend(ROOT / "bench")
        monkeypatch.setattr(sys, "argv", [f"bench/{script}", *options])
        runpy.run_path(str(ROOT / "bench" / script), run_name="__main__")
        return printed(capsys.readouterr().out)

    return run


Ratios = Callable[..., list[float]]


def test_ingest_is_compared_with_storescp(require_binary: Callable[[str], str]) -> None:
    """Slices by dcmsend to storescp and to the service."""
    require_binary("dcmsend")
    require_binary("storescp")
    (ratio,) = ratios("ingest.py", "--slices", "120", "--runs", "1")
    assert ratio > 0


def test_a_volume_is_compared_with_bytes_pydicom_and_simpleitk(ratios_here: Ratios) -> None:
    """Three peers, three ratios."""
    to_bytes, to_pydicom, to_simpleitk = ratios_here("volume.py", "--slices", "20", "--runs", "1")
    assert min(to_bytes, to_pydicom, to_simpleitk) > 0


def test_segmentation_is_compared_with_the_bare_network() -> None:
    """And with the naive way; the shipped weights, on very few pixels."""
    few = ("--slices", "8", "--rows", "64", "--extent", "48", "128", "--runs", "1", "--naive", "2")
    to_naive, to_naive_cpu, to_bare = ratios("segment.py", *few)
    assert min(to_naive, to_naive_cpu, to_bare) > 0


def test_phantoms_are_drawn_faster_than_training_wants_them(ratios_here: Ratios) -> None:
    """Slices a second, from one phantom of each modality."""
    (ratio,) = ratios_here("phantom.py", "--phantoms", "1", "--rows", "96")
    assert ratio > 0


def test_overhead_is_compared_with_sending_alone(require_binary: Callable[[str], str]) -> None:
    """A phantom through the service into a real Orthanc."""
    for program in ("Orthanc", "dcmsend", "storescu"):
        require_binary(program)
    size = ("--slices", "20", "--rows", "128", "--extent", "100", "256")
    (ratio,) = ratios("overhead.py", *size, "--runs", "1", "--quiet", "0.5")
    assert ratio > 0


def test_training_is_compared_with_the_bare_loop(ratios_here: Ratios) -> None:
    """By the clock and by processor time, on very few pixels."""
    size = ("--model", "fcn_vgg16", "--batch", "2", "--pixels", "32", "--steps", "1", "--runs", "1", "--phantoms", "1")
    wall, cpu = ratios_here("train.py", *size, "--threads", "1")
    assert min(wall, cpu) > 0


def test_reports_are_compared_with_a_bare_seg(ratios_here: Ratios) -> None:
    """Every object of a small study, and highdicom's SEG of it."""
    (ratio,) = ratios_here("objects.py", "--slices", "20", "--rows", "96", "--lesions", "2", "--runs", "1")
    assert ratio > 0


def test_jobs_are_asked_of_many_and_of_few(ratios_here: Ratios) -> None:
    """Every question that the bench asks has an answer."""
    (ratio,) = ratios_here("jobs.py", "--jobs", "200", "--runs", "1")
    assert ratio > 0


def test_a_soak_reads_what_the_service_holds(require_binary: Callable[[str], str]) -> None:
    """A few seconds of what is to be flat after an hour; every instance and every result is there."""
    for program in ("Orthanc", "dcmsend"):
        require_binary(program)
    assert min(ratios("soak.py", "--minutes", "0.1", "--slices", "20")) > 0


def test_workers_are_compared_with_one(require_binary: Callable[[str], str]) -> None:
    """Two that sleep where the model would run, and the results of a study of each."""
    for program in ("Orthanc", "dcmsend"):
        require_binary(program)
    assert min(ratios("scale.py", "--workers", "2", "--gpu-s", "1", "--real", "--studies", "1")) > 0


def test_pages_of_the_console_are_compared_with_a_small_ledger(ratios_here: Ratios) -> None:
    """Each page from a ledger of many jobs and of few."""
    (ratio,) = ratios_here("console.py", "--jobs", "300", "--runs", "1")
    assert ratio > 0
