"""The explorable front in a real Chromium: by mouse, by keyboard, with a filter, in the dark, and without a script."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.browser import Browser, chromium

PROGRAM = chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
ASKED = "segmentation+depth+normals"
POINTS = "[...document.querySelectorAll('#explore-figure svg path[aria-label]')]"
SHOWN = "[...document.querySelectorAll('#explore-table tbody tr')].filter(row => row.offsetHeight)"


@pytest.fixture(scope="module")
def report(half_done: Path) -> Path:
    return half_done / "analysis" / "report.html"


@pytest.fixture(scope="module")
def settings(report: Path) -> pd.DataFrame:
    return pd.read_csv(report.parent / "front.csv")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as one:
        yield one


def opened(browser: Browser, report: Path, **window: Any) -> None:
    browser.open(report, **window)
    drawn(browser)


def drawn(browser: Browser) -> None:
    """Waits until the figure shows as many points as the table has rows with both numbers."""
    browser.run(
        "new Promise(done => { const look = () => document.querySelector('#explore-figure').dataset.drawn === 'yes' "
        "? done() : requestAnimationFrame(look); look(); })"
    )


def set_to(browser: Browser, control: str, change: str) -> None:
    """Changes a control as a reader would, and waits for the figure."""
    browser.run(
        f"(() => {{ const one = document.querySelector('{control}'); one.{change}; "
        "one.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    drawn(browser)


def tick(browser: Browser, name: str, value: str) -> None:
    browser.run(f"document.querySelector('#explore input[name={name}][value=\"{value}\"]').click()")
    drawn(browser)


def press(browser: Browser, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
    drawn(browser)


def mouse(browser: Browser, kind: str, x: float, y: float) -> None:
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def middle(browser: Browser, place: int) -> tuple[float, float]:
    """Of a point, in the window."""
    browser.run(f"{POINTS}[{place}].scrollIntoView({{block: 'center'}})")
    x, y = browser.run(
        f"(box => [box.x + box.width / 2, box.y + box.height / 2])({POINTS}[{place}].getBoundingClientRect())"
    )
    return x, y


def chosen_rows(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "[...document.querySelectorAll('#explore-table tr.chosen')].map(row => [...row.cells].at(-1).textContent)"
    )
    pressed = browser.run("document.querySelectorAll('#explore-table .pick[aria-pressed=true]').length")
    assert pressed == len(found)
    return found


def said(browser: Browser) -> str:
    found: str = browser.run("document.querySelector('[aria-live]').textContent")
    return found


def test_at_first_it_shows_the_tasks_asked_for_and_the_model_to_use(
    browser: Browser, report: Path, settings: pd.DataFrame
) -> None:
    opened(browser, report)
    asked = settings[settings["tasks"] == ASKED]
    assert browser.run(f"{POINTS}.length") == browser.run(f"{SHOWN}.length") == len(asked)
    best = pd.read_csv(report.parent / "tables" / "best.csv").set_index("tasks").loc[ASKED]
    assert chosen_rows(browser) == [best["trial_id"]]
    panel = browser.run("document.querySelector('#explore-chosen').textContent")
    assert f"parsimony compact {best['model']}" in panel
    assert "The model to use." in panel


def test_filled_points_are_the_front_that_the_analysis_finds(
    browser: Browser, report: Path, settings: pd.DataFrame
) -> None:
    opened(browser, report)
    for tasks in settings["tasks"].unique():
        if tasks != ASKED:
            tick(browser, "tasks", tasks)
    assert browser.run(f"{POINTS}.length") == len(settings)
    on_front = settings.set_index("tasks")["on_cost_front"]
    full = f"{POINTS}.filter(one => one.getAttribute('fill') !== 'var(--ground)')"
    filled = browser.run(f"{full}.map(one => one.getAttribute('aria-label'))")
    assert 0 < len(filled) < len(settings)
    by_tasks = pd.Series([label.split(", ")[1] for label in filled]).value_counts().to_dict()
    assert by_tasks == on_front[on_front].groupby(level=0).size().to_dict()


def test_a_point_says_all_of_itself_under_the_pointer(browser: Browser, report: Path) -> None:
    opened(browser, report)
    tip = "document.querySelector('#explore-tip')"
    assert browser.run(f"{tip}.hidden")
    row = f"{SHOWN}[2]"
    name = browser.run(f"{row}.cells[0].textContent")
    place = browser.run(f"{POINTS}.findIndex(one => one.getAttribute('aria-label').startsWith({name!r}))")
    mouse(browser, "mouseMoved", *middle(browser, place))
    assert not browser.run(f"{tip}.hidden")
    told = browser.run(f"{tip}.textContent").replace("\N{NO-BREAK SPACE}", " ")
    cells = browser.run(f"[...{row}.cells].map(cell => cell.textContent)")
    assert all(cell in told.replace("\N{ZERO WIDTH SPACE}", "") for cell in cells)
    assert "parsimony compact" in told
    press(browser, "Escape")
    assert browser.run(f"{tip}.hidden")


def test_a_point_marks_its_row_and_a_row_its_point(browser: Browser, report: Path) -> None:
    opened(browser, report)
    rings = 'document.querySelectorAll(\'#explore-figure path[stroke-width="3"][stroke="var(--ink)"]\').length'
    assert browser.run(rings) == 1
    x, y = middle(browser, 0)
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        mouse(browser, kind, x, y)
    label = browser.run(f"{POINTS}[0].getAttribute('aria-label')")
    assert said(browser) == f"Chosen: {label}."
    assert len(chosen_rows(browser)) == 1
    names = browser.run("document.querySelector('#explore-table tr.chosen .pick').textContent")
    assert label.startswith(names)
    browser.run(f"{SHOWN}[1].querySelector('.pick').click()")
    assert chosen_rows(browser) == browser.run(f"[{SHOWN}[1].cells[{SHOWN}[1].cells.length - 1].textContent]")
    assert browser.run("document.querySelector('#explore-chosen').checkVisibility()")
    browser.run(f"{SHOWN}[1].querySelector('.pick').click()")
    assert chosen_rows(browser) == []
    assert browser.run(f"new Promise(done => requestAnimationFrame(() => done({rings})))") == 0


def test_entries_of_the_legend_and_words_hide_points_and_rows_alike(
    browser: Browser, report: Path, settings: pd.DataFrame
) -> None:
    opened(browser, report)
    asked = settings[settings["tasks"] == ASKED]
    tick(browser, "method", "dense")
    kept = asked[asked["strategy"] != "dense"]
    assert 0 < len(kept) < len(asked)
    assert browser.run(f"{POINTS}.length") == browser.run(f"{SHOWN}.length") == len(kept)
    assert said(browser) == f"{len(kept)} of {len(settings)} settings are shown."
    set_to(browser, "#explore-filter", "value = '3e-2 GROUP'")
    assert browser.run(f"{POINTS}.length") == browser.run(f"{SHOWN}.length") == 1
    set_to(browser, "#explore-filter", "value = 'nothing of the kind'")
    assert browser.run(f"{SHOWN}.length") == browser.run(f"{POINTS}.length") == 0
    assert said(browser).startswith("No setting is shown")


def test_other_axes_show_other_numbers(browser: Browser, report: Path, settings: pd.DataFrame) -> None:
    opened(browser, report)
    axes = browser.run("[...document.querySelectorAll('#explore option')].map(one => one.value)")
    costs = ["model_macs_share", "model_parameters_share", "model_latency_share", "model_latency_ms", "group_sparsity"]
    assert set(costs) <= set(axes)
    assert {"delta_m", "over_dense", "depth_mae", "normals_cos"} <= set(axes)
    set_to(browser, "#explore-x", "value = 'group_sparsity'")
    set_to(browser, "#explore-y", "value = 'depth_mae'")
    titles = browser.run("[...document.querySelectorAll('#explore-figure svg text')].map(one => one.textContent)")
    assert "groups gone [%]" in titles
    assert "depth MAE [m] ↓" in titles
    assert "Right is cheaper, down is better." in browser.run("document.querySelector('#explore-caption').textContent")
    tick(browser, "tasks", "segmentation")
    without = int((settings["tasks"] == "segmentation").sum())
    assert f"{without} of them are in the table only" in said(browser)
    assert browser.run(f"{POINTS}.length") == int((settings["tasks"] == ASKED).sum())


def test_by_keyboard_alone(browser: Browser, report: Path) -> None:
    opened(browser, report)
    reached = browser.run(
        "[...document.querySelectorAll('#explore input, #explore select')].every(one => one.labels.length && "
        "one.tabIndex === 0 && one.labels[0].textContent.trim())"
    )
    assert reached
    browser.run("document.querySelector('#explore-figure').focus()")
    press(browser, "Home")
    first = chosen_rows(browser)
    press(browser, "ArrowRight")
    second = chosen_rows(browser)
    assert len(first) == len(second) == 1
    assert first != second
    assert said(browser).startswith("Chosen: ")
    press(browser, "ArrowLeft")
    assert chosen_rows(browser) == first
    press(browser, "Escape")
    assert chosen_rows(browser) == []
    # The front runs from the cheapest on.
    shares = []
    for key in ("Home", "ArrowRight", "ArrowRight"):
        press(browser, key)
        shares.append(float(re.findall(r"MACs \[% of dense\] ([\d.]+)", said(browser))[0]))
    assert shares == sorted(shares)


def test_points_follow_the_readers_scheme(browser: Browser, report: Path) -> None:
    looks = []
    for dark in (False, True):
        opened(browser, report, dark=dark)
        looks.append(
            browser.run(
                f"[getComputedStyle({POINTS}[0]).stroke, "
                "getComputedStyle(document.querySelector('#explore-figure svg text')).fill]"
            )
        )
    assert all(one != other for one, other in zip(*looks, strict=True))
    brightness = [sum(int(part) for part in re.findall(r"\d+", look[1])[:3]) for look in looks]
    assert brightness[0] < 150
    assert brightness[1] > 600


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_the_window_with_all_tasks(browser: Browser, report: Path, width: int) -> None:
    opened(browser, report, width=width)
    browser.run("document.querySelectorAll('#explore input[name=tasks]:not(:checked)').forEach(one => one.click())")
    drawn(browser)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("document.querySelector('#explore-figure svg').getBoundingClientRect().right") < width
    sizes = browser.run(
        "[...document.querySelectorAll('#explore-figure svg text')].map(one => "
        "parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a || 99)"
    )
    assert min(sizes) >= 8 or width > 390
    mouse(browser, "mouseMoved", *middle(browser, 0))
    box = browser.run("(one => [one.left, one.right])(document.querySelector('#explore-tip').getBoundingClientRect())")
    assert 0 <= box[0] < box[1] <= width


def test_without_a_script_the_table_and_the_drawn_figures_are_there(browser: Browser, report: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        visible = "document.querySelector('{}').checkVisibility()"
        assert browser.run(visible.format("#explore-table"))
        assert browser.run(visible.format("#figure-cost + figure svg"))
        assert browser.run(visible.format("#explore .no-js"))
        for hidden in (".controls", "#explore-figure", "button.copy"):
            assert not browser.run(visible.format(hidden))
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
