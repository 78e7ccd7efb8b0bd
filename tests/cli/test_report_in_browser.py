"""The report in a real browser: nothing asked for, no complaints, everything seen, narrow and wide."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from clover_rl.cli.app import main
from tests.cli.browser import CHROMIUM, Browser
from tests.cli.report_results import document, training, write_results

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: Debian's package chromium has it")

FIGURES = 6


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report."""
    folder = tmp_path_factory.mktemp("report")
    results = write_results(folder / "results", document("<script>document.title = 'broken in'</script>"))
    (results / "training.json").write_text(json.dumps(training()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clover-rl", "report", str(results), "-o", str(folder / "report.html")])
        with pytest.raises(SystemExit) as caught:
            main()
    assert not caught.value.code
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_fits_and_shows_its_figures(
    browser: Browser, page: str, width: int, scheme: str
) -> None:
    browser.open(page, width, scheme=scheme)
    assert browser.requested == [page]
    assert browser.complaints == []
    assert browser.evaluate("document.title") == "Clover-RL report"
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    boxes = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].map(svg => { const box = svg.getBoundingClientRect();"
        " return [box.width, box.height, svg.querySelectorAll('text').length]; })"
    )
    assert len(boxes) == FIGURES
    for wide, high, texts in boxes:
        assert wide > 300
        assert high > 60
        assert texts > 5
    labels = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg text')]"
        ".map(text => text.getBoundingClientRect().height).filter(height => height > 0))"
    )
    assert labels > 6  # pixels: to be read on a telephone as well


def test_figures_take_the_colours_of_the_scheme(browser: Browser, page: str) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(page, 1400, scheme=scheme)
        seen[scheme] = browser.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('figure svg text')).fill]"
        )
    assert seen["light"] != seen["dark"]
    for _, ink, label in seen.values():
        assert ink == label


def test_links_lead_to_parts_of_the_page(browser: Browser, page: str) -> None:
    browser.open(page, 1400)
    missing = browser.evaluate(
        "[...document.querySelectorAll('nav a')]"
        ".filter(link => !document.querySelector(link.getAttribute('href'))).length"
    )
    assert missing == 0


def test_it_prints_without_cutting_tables(browser: Browser, page: str) -> None:
    browser.open(page, 760)  # about a sheet of A4 within its margins
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert browser.evaluate("document.documentElement.scrollWidth") <= 760
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    assert browser.pdf().startswith(b"%PDF")
