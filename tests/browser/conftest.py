"""A real browser, and a JupyterLab over a copy of the notebooks."""

import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest
from lab_server import CHROMIUM, FLAGS, running_lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Every test in a browser is slow, but the one that make test runs. A busy machine may miss a deadline once: such a
    test is run again, and pytest says so; twice is a fault."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.flaky(reruns=1))
            if not item.get_closest_marker("smoke"):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def seeded():
    """The browser tests need no seed, and no torch in the test process."""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium found: install it (Debian: apt-get install chromium), or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that collects what went wrong in it, as page.errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    yield page
    context.close()


@pytest.fixture(scope="session")
def tools_site():
    """tools/site.py, which makes a page of a lesson."""
    sys.path.insert(0, str(ROOT / "tools"))
    spec = spec_from_file_location("tools_site", ROOT / "tools" / "site.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lab(browser, tools_site, tmp_path_factory):
    """The address of a notebook in a running JupyterLab over a copy of the lessons and of those that are made for the
    tests, with {} for its name."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for text in Path(__file__).parent.glob("a_*.py"):
        nbformat.write(tools_site.read_text(text), folder / "notebooks" / f"{text.stem}.ipynb")
    with running_lab(folder) as address:
        yield address


@pytest.fixture(scope="module")
def one_thread():
    """For a softmax of eight rows two threads beside a browser take a hundred times as long as one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tab(browser):
    """One page for all: the engine leaves nothing in it."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    yield page
    page.close()
