"""The report in a real Chromium: it works, loads nothing, follows the reader's scheme and width, and prints whole."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest

from tests.support.browser import Browser, chromium

PROGRAM = chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
FIGURES = 15


@pytest.fixture(scope="module")
def report(half_done: Path) -> Path:
    return half_done / "analysis" / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as one:
        yield one


def test_it_opens_without_an_error_or_a_request(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.run("document.querySelectorAll('figure .panels svg').length") > 3 * FIGURES
    told = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    told += [event for event in browser.events if event["method"] == "Runtime.consoleAPICalled"]
    assert told == []
    asked = [event["params"]["request"]["url"] for event in browser.events if "requestWillBeSent" in event["method"]]
    assert [url for url in asked if urlparse(url).scheme != "data"] == [report.resolve().as_uri()]


def test_a_header_sorts_its_table_by_number_and_back(browser: Browser, report: Path) -> None:
    browser.open(report)
    place = browser.run("[...document.querySelectorAll('#trials th')].findIndex(h => h.textContent.startsWith('Δm'))")
    column = f"[...document.querySelectorAll('#trials tbody tr')].map(row => row.cells[{place}].textContent)"

    def numbers() -> list[float]:
        cells = browser.run(column)
        filled = [cell for cell in cells if cell]
        assert cells == filled + [""] * (len(cells) - len(filled))
        return [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in filled]

    press = f"document.querySelectorAll('#trials th button')[{place}].click()"
    browser.run(press)
    rising = numbers()
    assert len(rising) > 20
    assert rising == sorted(rising)
    assert min(rising) < 0 < max(rising)
    assert browser.run(f"document.querySelectorAll('#trials th')[{place}].getAttribute('aria-sort')") == "ascending"
    browser.run(press)
    assert numbers() == rising[::-1]
    browser.run("document.querySelectorAll('#trials th button')[0].click()")
    names = browser.run("[...document.querySelectorAll('#trials tbody tr')].map(row => row.cells[0].textContent)")
    assert names == sorted(names, key=str.lower)


def test_the_filter_leaves_the_rows_that_hold_every_word(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.run(
        "(() => { const input = document.querySelector('.filter input'); input.value = 'failed DEPTH';"
        " input.dispatchEvent(new Event('input')); })()"
    )
    shown = "[...document.querySelectorAll('#trials tbody tr')].filter(row => row.offsetHeight).map(r => r.textContent)"
    rows = browser.run(shown)
    assert 0 < len(rows) <= 2
    assert all("failed" in row and "depth" in row for row in rows)


def test_each_figures_data_is_one_click_away(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.run("document.querySelectorAll('figure details').length") == FIGURES
    visible = "document.querySelector('#figure-front + figure table').checkVisibility()"
    assert not browser.run(visible)
    browser.run("document.querySelector('#figure-front + figure summary').click()")
    assert browser.run(visible)
    link = "document.querySelector('#figure-front + figure a[download]').href"
    content = browser.run(f"fetch({link}).then(answer => answer.text())")
    assert content == (report.parent / "figures" / "front.csv").read_text()


def test_dark_differs_in_page_and_figures_and_stays_readable(browser: Browser, report: Path) -> None:
    looks = []
    for dark in (False, True):
        browser.open(report, dark=dark)
        page = browser.run("getComputedStyle(document.body).backgroundColor")
        text = browser.run("getComputedStyle(document.querySelector('.panels svg text')).fill")
        line = browser.run("getComputedStyle(document.querySelector('#figure-front + figure .panels svg use')).fill")
        looks.append((page, text, line))
    light, dark_looks = looks
    assert all(one != other for one, other in zip(light, dark_looks, strict=True))
    brightness = [[sum(int(part) for part in re.findall(r"\d+", color)[:3]) for color in look[:2]] for look in looks]
    assert brightness[0][0] > 700
    assert brightness[0][1] < 150
    assert brightness[1][0] < 150
    assert brightness[1][1] > 600


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == width
    wide = "[...document.querySelectorAll('svg')].filter(one => one.getBoundingClientRect().right > innerWidth).length"
    assert browser.run(wide) == 0


def test_on_a_phone_letters_of_figures_are_large_enough(browser: Browser, report: Path) -> None:
    browser.open(report, width=390)
    scale = "(one => { const m = one.getScreenCTM(); return Math.hypot(m.a, m.b); })(one)"
    sizes = f"[...document.querySelectorAll('.panels svg text')].map(one => parseFloat(one.style.fontSize) * {scale})"
    smallest = min(browser.run(sizes))
    assert smallest >= 8


def test_it_prints_in_one_piece(browser: Browser, report: Path) -> None:
    browser.open(report)
    # Chromium lays out for print what `matchMedia` says; figures that are higher than a page would be cut.
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.call("Emulation.setDeviceMetricsOverride", width=1032, height=703, deviceScaleFactor=1, mobile=False)
    heights = browser.run("[...document.querySelectorAll('figure')].map(one => one.getBoundingClientRect().height)")
    widths = browser.run("[...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect().right)")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert len(heights) == FIGURES + 1
    assert max(heights) < 703
    assert max(widths) <= 1032
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert 8 < max(int(count) for count in re.findall(rb"/Count (\d+)", printed)) < 40
