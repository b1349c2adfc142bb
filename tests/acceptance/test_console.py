"""The console in Chromium, beside the real service and Orthanc: a study goes through it from the upload to its overlay.

One story, told in its order, for what costs is the service, the model and the browser.
"""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from dicom_io.seg_reader import read_seg
from tests.acceptance.conftest import Site, until

PASSWORD = "correct horse battery"


@dataclass
class Served:
    """A console that runs, its log, and its address."""

    url: str
    log: Path


@pytest.fixture
def served(site: Site, free_port: Callable[[], int]) -> Iterator[Served]:
    """The service, and the console beside it, with an operator."""
    port = free_port()
    site.changes = {
        "[log]\n": f"[web]\nport = {port}\nattempts = 3\n[log]\n",
        "longest_retry_s = 2\n": "longest_retry_s = 2\ngive_up_after_s = 3\n",
    }
    site.start()
    command = [sys.executable, "-m", "daemon.commands.cli", "console"]
    named = [*command, "user", "add", "anna", "--role", "operator", "--password-stdin", "-c", str(site.config)]
    assert subprocess.run(named, input=PASSWORD + "\n", text=True, timeout=60, check=False).returncode == 0
    log = site.directory / "console.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "-c", str(site.config)], stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url), seconds=120, what="the console's answer")
        yield Served(url, log)
    finally:
        process.terminate()
        assert process.wait(15) == 0
        assert "console.stopped" in log.read_text()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def page(require_binary: Callable[[str], str]) -> Iterator[Page]:
    """A telephone: 390 pixels wide. What a page logs as an error fails the test."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=require_binary("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844})
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()
        assert errors == []


def check_page(page: Page) -> None:
    """No serious finding of axe-core, and nothing that makes a telephone scroll sideways."""
    import axe_playwright_python

    script = next(Path(axe_playwright_python.__file__).parent.glob("**/axe.min.js")).read_text()
    page.evaluate(script)  # in the page's own world: its policy loads no script of others
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    serious = [
        (item["id"], item["nodes"][0]["html"][:120]) for item in found if item["impact"] in ("serious", "critical")
    ]
    assert serious == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], page.url


def sign_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/sign-in")
    page.get_by_label("Name").fill("anna")
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")  # by the keyboard alone


@pytest.mark.timeout(400)
def test_a_study_from_upload_to_overlay(
    site: Site, served: Served, page: Page, phantom_series: Callable[[int], list[Path]]
) -> None:
    """Signed in by the keyboard; files dropped, followed, read; the overlay lies where the SEG has it."""
    page.goto(served.url)
    assert page.url.endswith("/sign-in")
    check_page(page)
    sign_in(page, served.url, "wrong")
    page.get_by_text("Wrong name or password").wait_for()
    sign_in(page, served.url, PASSWORD)
    page.get_by_role("heading", name="Find a study").wait_for()
    check_page(page)

    page.get_by_role("link", name="Upload").click()
    check_page(page)
    page.get_by_label("Files", exact=True).set_input_files([str(path) for path in phantom_series(1)])
    page.get_by_role("button", name="Upload").click()
    page.get_by_text("40 files sent: 40 STORED").wait_for()
    until(lambda: "CONFIRMED" in site.states(), seconds=240, what="the result")
    page.get_by_role("link", name="Read").click()
    page.wait_for_function("() => window.viewerState && window.viewerState().ready")
    check_page(page)
    assert_overlay(page, site)

    page.goto(f"{served.url}/now")
    page.get_by_text("Live, as of").wait_for()
    assert page.locator("#lights .lamp.green").count() == 1
    check_page(page)
    for path in ("/needs", "/rules"):
        page.goto(served.url + path)
        check_page(page)
    page.get_by_role("button", name="Check").click()
    page.locator("#checks .OK", has_text="ORTHANC at").wait_for()
    page.goto(f"{served.url}/studies/{site.jobs()[0].study_instance_uid}")
    check_page(page)
    assert_retried(page, site, served.url)
    assert_locked(page, served.url)
    assert all(word not in served.log.read_text() for word in ("PHANTOM", "anna", "GET", "/studies"))


def assert_overlay(page: Page, site: Site) -> None:
    """The pixels that the overlay colours on a slice are those of the SEG in the outbox on the same image."""
    shown = pixels(page)
    page.get_by_role("button", name="Overlay", exact=True).click()
    plain = pixels(page)
    index = page.evaluate("window.viewerState().index")
    coloured = (shown != plain).any(axis=2)
    masks = read_seg(site.root / "outbox" / "1" / "0" / "seg.dcm")
    heights = sorted({round(float(origin @ mask.normal), 2) for mask in masks for origin in mask.origins_lps_mm})
    assert len(heights) > 3
    on_slice = np.zeros(coloured.shape, bool)
    first = page.evaluate("fetch('/api/v1/jobs/1/volumes/0').then(a => a.json()).then(a => a.slices_with['1'][0])")
    for mask in masks:
        for pixels_of, origin in zip(mask.masks, mask.origins_lps_mm, strict=True):
            if heights.index(round(float(origin @ mask.normal), 2)) == index - first:
                on_slice |= pixels_of
    assert on_slice.sum() > 100
    overlap = 2 * (coloured & on_slice).sum() / (coloured.sum() + on_slice.sum())
    assert overlap > 0.98, overlap  # a pixel that had the colour already shows no difference
    page.get_by_role("application").focus()
    page.keyboard.press("o")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(f"() => window.viewerState().index === {index + 1} && window.viewerState().overlay")
    page.keyboard.press("n")
    page.wait_for_function(f"() => window.viewerState().index === {index}")  # the lesion's slice, where reading began


def assert_retried(page: Page, site: Site, url: str) -> None:
    """Sent again while the archive is away, it halts; the page says why, and one button has it go on."""
    site.orthanc.stop()
    page.get_by_role("button", name="Send job 1 again").click()
    page.get_by_text("job 1: 2 objects to orthanc").wait_for()
    until(lambda: "DESTINATION_UNREACHABLE" in site.porta("jobs", "--json").stdout, seconds=60, what="the halt")
    page.goto(f"{url}/needs")
    page.get_by_role("heading", name="DESTINATION_UNREACHABLE at orthanc: 1 job").wait_for()
    site.orthanc.start(say=lambda text: None)
    page.get_by_role("button", name="Retry 1 job").click()
    page.get_by_text("job 1 goes on").wait_for()
    until(lambda: site.states() == ["CONFIRMED"], seconds=60, what="the delivery")


def assert_locked(page: Page, url: str) -> None:
    """After three wrong passwords the right one opens nothing; who is signed in stays so."""
    assert page.context.browser is not None
    stranger = page.context.browser.new_page()
    for password in ("wrong", "wrong", "wrong", PASSWORD):
        sign_in(stranger, url, password)
        stranger.get_by_text("Wrong name or password").wait_for()
    page.goto(f"{url}/now")
    page.get_by_text("Live, as of").wait_for()


def pixels(page: Page) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The picture as it is on the canvas, without diameters: rows, columns, RGB."""
    axes = page.get_by_role("button", name="Diameters")
    if axes.get_attribute("aria-pressed") == "true":
        axes.click()
    flat = page.evaluate(
        "(() => { const c = document.getElementById('picture'); return [c.height, c.width,"
        " Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]; })()"
    )
    return np.array(flat[2], np.uint8).reshape(flat[0], flat[1], 4)[:, :, :3]
