"""What a person sees in `optstudy ui` after a small study, through MLflow's own pages."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from optstudy.records.location import Location
from optstudy.tracking import open_existing
from optstudy.tracking.evidence import read_searches

LAPTOP: ViewportSize = {"width": 1400, "height": 900}
WIDE: ViewportSize = {"width": 2560, "height": 1440}  # the same laptop, with the page zoomed out to half
PATIENCE = 30_000  # ms; MLflow's pages take a second, on a busy machine more

# Moves a list of metrics by a line as often as asked, since MLflow makes only the lines around those in view.
SCROLL = """([names, values, wanted]) => {
    const found = [...names.querySelectorAll("a")].find(name => name.textContent === wanted);
    const seen = found && found.getBoundingClientRect().bottom < names.getBoundingClientRect().bottom;
    if (!seen) values.scrollTop += 45;
    return seen;
}"""

expect.set_options(timeout=PATIENCE)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of a person who opens MLflow for the first time."""
    context = browser.new_context(viewport=LAPTOP)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def visit(page: Page, link: str) -> None:
    """Follow a link, and close the assistant that MLflow opens over a third of a new visitor's window."""
    page.goto(link)
    page.get_by_role("button", name="Close", exact=True).click()


def row_of(page: Page, run: str) -> Locator:
    """The left part of a run's row, with its name, in a list of runs."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=run, exact=True))


def open_run(page: Page, links: Mapping[str, str], run: str) -> None:
    """Go to a final run from the list of runs."""
    visit(page, links["final runs"])
    page.get_by_role("link", name=run, exact=True).click()
    expect(page.get_by_role("heading", name=run)).to_be_visible()


def expect_loaded(images: Locator, count: int) -> None:
    """Wait until so many images are shown, each with its pixels."""
    expect(images).to_have_count(count)
    for image in images.all():
        expect(image).to_be_visible()
        expect(image).not_to_have_js_property("naturalWidth", 0)


def test_the_list_of_runs_opens_with_optimizer_config_seed_and_final_accuracies(
    page: Page, links: Mapping[str, str], studied: Path
) -> None:
    params, metrics = ("optimizer", "config", "seed"), ("final/train_accuracy_pct", "final/test_accuracy_pct")
    visit(page, links["final runs"])
    expect(page.get_by_role("link", name="sgd/seed-0")).to_be_visible()

    runs = open_existing(Location(studied)).final_runs(["tiny"])[0]
    assert len(runs) == 4
    for run in runs:
        name = f"{run.optimizer}/seed-{run.seed}"
        cells = page.locator(f'[row-id="{row_of(page, name).get_attribute("row-id")}"]')
        for column in params:
            expect(cells.locator(f'[col-id="params.`{column}`"]')).to_have_text(str(getattr(run, column)))
        for column, value in zip(metrics, (run.train_accuracy, run.test_accuracy), strict=True):
            cell = cells.locator(f'[col-id="metrics.`{column}`"]')
            expect(cell).to_be_in_viewport()
            assert float(cell.inner_text()) == pytest.approx(100 * value)


def test_the_list_of_trials_opens_with_state_score_and_hyperparameters(
    page: Page, links: Mapping[str, str], studied: Path
) -> None:
    visit(page, links["trials"])
    for name in ("sgd", "unreliable"):
        row_of(page, name).get_by_role("button").click()

    searches = read_searches(open_existing(Location(studied)), ["tiny"]).searches
    assert {search.optimizer for search in searches} == {"sgd", "unreliable"}
    for search in searches:
        for trial in search.trials:
            row = row_of(page, f"{search.optimizer}/{trial.number:03d}").get_attribute("row-id")
            cells = page.locator(f'[row-id="{row}"]')
            outcome = cells.locator('[col-id="tags.`optstudy.outcome`"]')
            expect(outcome).to_be_in_viewport()
            expect(outcome).to_have_text(trial.state)
            for name, value in trial.params.items():
                expect(cells.locator(f'[col-id="params.`{name}`"]')).to_have_text(str(value))
            score = cells.locator('[col-id="metrics.`validation/accuracy`"]')
            if trial.score is None:
                expect(score).to_have_text("-")
            else:
                assert float(score.inner_text()) == pytest.approx(trial.score, abs=5e-4)


def test_the_compare_page_shows_parameters_and_metrics_of_every_final_run(
    page: Page, links: Mapping[str, str], studied: Path
) -> None:
    visit(page, links["compare"])
    expect(page.get_by_role("heading", name="Comparing 4 Runs")).to_be_visible()

    by_id = {run.run_id: run for run in open_existing(Location(studied)).final_runs(["tiny"])[0]}
    runs = [by_id[run_id] for run_id in json.loads(parse_qs(links["compare"].partition("?")[2])["runs"][0])]
    for name in ("optimizer", "config", "seed"):
        row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
        expect(row.first).to_contain_text("".join(str(getattr(run, name)) for run in runs))
    expect(page.get_by_role("row").filter(has=page.get_by_text("lr", exact=True)).first).to_contain_text(
        "".join(run.params["lr"] for run in runs)
    )
    grids = page.get_by_role("grid")
    names, values = grids.first, grids.last  # of the metrics, side by side
    expect(names.get_by_text("eigen/lambda_1", exact=True)).to_be_visible()
    for metric, of in (
        ("final/test_accuracy_pct", "test_accuracy"),
        ("final/train_accuracy_pct", "train_accuracy"),
    ):
        page.wait_for_function(
            SCROLL, arg=[names.element_handle(), values.element_handle(), metric], polling=100
        )
        for run in runs:
            expect(values).to_contain_text(f"{100 * getattr(run, of):.4g}")


def test_two_runs_that_are_ticked_show_their_images_beside_one_another(
    page: Page, links: Mapping[str, str]
) -> None:
    visit(page, links["final runs"])
    for run in ("sgd/seed-0", "unreliable/seed-0"):
        row_of(page, run).get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()

    page.get_by_test_id("artifact-tree-node").get_by_text("confusion.png").click()

    expect_loaded(page.get_by_alt_text("confusion.png"), 2)


def test_more_runs_show_their_images_where_the_window_is_wide(page: Page, links: Mapping[str, str]) -> None:
    """Each run takes 490 px, and the list of files what is left: nothing on a laptop, so zoom out."""
    page.set_viewport_size(WIDE)
    visit(page, links["compare"])

    page.get_by_test_id("artifact-tree-node").get_by_text("gradient_norm.png").click()

    expect_loaded(page.get_by_alt_text("gradient_norm.png"), 4)


def test_a_seed_of_each_optimizer_can_be_compared(page: Page, links: Mapping[str, str]) -> None:
    visit(page, links["compare a seed of each"])

    expect(page.get_by_role("heading", name="Comparing 2 Runs")).to_be_visible()
    page.get_by_test_id("artifact-tree-node").get_by_text("confusion.png").click()
    expect_loaded(page.get_by_alt_text("confusion.png"), 2)


def test_a_runs_description_is_text_with_a_table(page: Page, links: Mapping[str, str]) -> None:
    open_run(page, links, "sgd/seed-0")

    expect(page.locator("strong", has_text="SGD")).to_be_visible()
    table = page.get_by_role("table").filter(has=page.get_by_role("columnheader", name="hyperparameter"))
    expect(
        table.get_by_role("row").filter(has=page.get_by_role("cell", name="lr", exact=True))
    ).to_be_in_viewport()


@pytest.mark.parametrize("metric", ["test/accuracy", "eigen/ratio"])
def test_a_run_charts_its_metrics(metric: str, page: Page, links: Mapping[str, str]) -> None:
    open_run(page, links, "sgd/seed-0")
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill(metric)

    chart = page.get_by_test_id("experiment-view-compare-runs-card")
    expect(chart).to_have_count(1)
    expect(chart).to_contain_text(f"sgd/seed-0 ({metric})")
    expect(chart.locator("path.js-line").first).to_be_visible()


def test_a_run_shows_its_images(page: Page, links: Mapping[str, str]) -> None:
    open_run(page, links, "sgd/seed-0")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("gradient_norm.png", exact=True).click()

    expect_loaded(page.get_by_alt_text("gradient_norm.png"), 1)


def test_trials_open_under_their_search(page: Page, links: Mapping[str, str]) -> None:
    visit(page, links["trials"])
    trial = page.get_by_role("link", name="sgd/000", exact=True)
    expect(page.get_by_role("link", name="sgd", exact=True)).to_be_visible()
    expect(trial).to_be_hidden()

    row_of(page, "sgd").get_by_role("button").click()

    expect(trial).to_be_visible()
    expect(page.get_by_role("link", name="unreliable/000", exact=True)).to_be_hidden()
