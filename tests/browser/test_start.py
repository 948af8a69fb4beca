"""The first minute: the reader's own command, `make lab`, brings lesson 00 into a browser, as root and as a user."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab_server import running_lab

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/lab/tree/\S+\?token=\w+")
ANYONE = 65534  # "nobody"
ABLE = f"import os, sys, jupyterlab; assert os.geteuid() == {ANYONE} and os.access(sys.executable, os.X_OK)"
PICTURES = ".jp-Notebook img, .jp-Notebook canvas"

# Characters in each line of the paragraphs and lists that have no formula, longest first.
LINE_LENGTHS = """() => {
  const lengths = [];
  for (const block of document.querySelectorAll('.jp-RenderedMarkdown > p, .jp-RenderedMarkdown li')) {
    if (block.querySelector('mjx-container, p, li')) continue;
    const lines = {}, walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode())
      for (let i = 0; i < node.length; i++) {
        const range = document.createRange();
        range.setStart(node, i); range.setEnd(node, i + 1);
        const box = range.getBoundingClientRect();
        if (box.height) { const y = Math.round((box.top + box.bottom) / 20); lines[y] = (lines[y] || 0) + 1; }
      }
    lengths.push(...Object.values(lines));
  }
  return lengths.sort((a, b) => b - a);
}"""


@pytest.fixture
def desk(browser):
    """A page as large as a small laptop's screen."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.errors, page.elsewhere = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: page.elsewhere.append(r.url) if re.match(r"\w+://(?!127\.0\.0\.1)", r.url) else None)
    yield page
    context.close()


class Terminal:
    """A command in a terminal of its own, so that Ctrl-C is the key that a reader presses."""

    def __init__(self, command: list[str], **options):
        main, side = pty.openpty()
        self.keyboard, self.text, self.asked_to_stop = main, "", False
        # A new session whose terminal is ours: the shell's part in a reader's window.
        here = [sys.executable, "-c", "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
                "os.execvp(sys.argv[1], sys.argv[1:])"]  # fmt: skip
        self.process = subprocess.Popen(
            [*here, *command], stdin=side, stdout=side, stderr=side, start_new_session=True, **options
        )
        os.close(side)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while select.select([self.keyboard], [], []) and (data := os.read(self.keyboard, 4096)):
                self.text += data.decode("utf-8", "replace")
        except OSError:  # the other side is closed
            pass

    def address(self) -> str:
        end = time.monotonic() + 180
        while not (found := ADDRESS.search(self.text)):
            assert self.process.poll() is None and time.monotonic() < end, "no address:\n" + self.text
            time.sleep(0.2)
        return found[0]

    def press_ctrl_c(self) -> int:
        if self.process.poll() is None:
            os.write(self.keyboard, b"\x03")
        return self.process.wait(timeout=60)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        os.close(self.keyboard)


def fresh_clone(folder: Path) -> Path:
    """The project's files and the environment that is installed already, in which make has nothing to do."""
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("make lab runs what is in .venv; these tests run in another environment")
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).exists():  # with its time, which make compares
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    todo = subprocess.run(["make", "-n", "lab"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert todo == ".venv/bin/python -m fmlib lab\n", "run `make test` first, which installs what has changed:\n" + todo
    return folder


def as_user(folder: Path) -> list[str]:
    """The beginning of a command that makes an ordinary user of root; skip where that cannot be done."""
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv to become an ordinary user with")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, ANYONE, ANYONE, follow_symlinks=False)
    become = ["setpriv", f"--reuid={ANYONE}", f"--regid={ANYONE}", "--clear-groups"]
    # The interpreter may lie in root's home. Then the user may read, but not write, what is root's.
    capability = ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    reading = [*become, *capability]
    for attempt in (become, reading):
        test = [*attempt, sys.executable, "-c", ABLE]
        if subprocess.run(test, cwd=folder, capture_output=True).returncode == 0:
            return attempt
    pytest.skip(f"an ordinary user cannot run {sys.executable} here")


def check_first_minute(page, address: str) -> None:
    """Lesson 00 is there as a reader needs it; then one cell is run."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-RenderedMarkdown h1")
    page.get_by_role("heading", name=re.compile("^00")).first.wait_for()
    page.wait_for_function(f"() => [...document.querySelectorAll('{PICTURES}')].some(e => e.offsetHeight > 50)")
    top = page.evaluate(
        f"""() => Math.min(...[...document.querySelectorAll('{PICTURES}')]
            .filter(e => e.offsetHeight > 50).map(e => e.getBoundingClientRect().top))"""
    )
    assert 0 < top < 2.5 * 900, f"the first picture is {top:.0f} pixels down"
    assert page.locator(".jp-Launcher").count() == 0
    assert (
        page.locator(".jp-Dialog, .jp-toast, [class*=Toastify__toast-body]").count() == 0
    )  # such as the news question
    names = page.locator(".jp-DirListing-itemText")
    names.first.wait_for()
    assert "01_continuity_equation.ipynb" in names.all_inner_texts() and "src" not in names.all_inner_texts()
    cut = page.evaluate(
        "() => [...document.querySelectorAll('.jp-DirListing-itemText')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => e.innerText)"
    )
    assert cut == [], "names that are cut"
    lengths = page.evaluate(LINE_LENGTHS)
    assert len(lengths) > 10 and 70 < lengths[0] <= 92, lengths[:5]
    assert page.errors == [] and page.elsewhere == []


@pytest.mark.parametrize("who", ["root", "user"])
def test_make_lab_brings_the_first_lesson_and_ctrl_c_ends_it(desk, tmp_path_factory, who):
    """Two at once: the second takes another port. No terminal's browser, nothing installed again."""
    root = os.geteuid() == 0
    if who == "root" and not root:
        pytest.skip("these tests do not run as root")
    folder = Path(tmp_path_factory.mktemp("clone"))
    if root and who == "user":
        for parent in list(folder.parents)[:2]:
            parent.chmod(parent.stat().st_mode | 0o055)  # pytest's own folders
    clone = fresh_clone(folder)
    begin = as_user(folder) if root and who == "user" else []
    home = folder / "home"
    home.mkdir()
    if begin:
        os.chown(home, ANYONE, ANYONE)
    hidden = ("JUPYTER", "XDG_", "BROWSER", "DISPLAY", "WAYLAND", "MAKE", "MFLAGS")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    variables |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    first = Terminal([*begin, "make", "lab"], cwd=clone, env=variables)
    second = None
    try:
        address = first.address()
        assert "address below" in first.text  # there is no desktop
        check_first_minute(desk, address)
        second = Terminal([*begin, "make", "lab"], cwd=clone, env=variables)
        other = second.address()
        assert ADDRESS.search(other)[1] != ADDRESS.search(address)[1]
        assert f"on port {ADDRESS.search(other)[1]}" in second.text
        desk.goto("about:blank")
        for terminal in (second, first):
            code = terminal.press_ctrl_c()
            assert code in (0, 2, 130, -2), terminal.text  # make itself ends by the signal
            assert "?" not in terminal.text.split("^C")[-1], "it asked a question:\n" + terminal.text
        left = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
        assert str(home) not in left, "a kernel or server was left behind:\n" + left
        theirs = [p for name in (".jupyter", ".local/share/jupyter") for p in (home / name).rglob("*") if p.is_file()]
        assert theirs == []
    finally:
        for terminal in filter(None, (second, first)):
            terminal.close()


@pytest.fixture(scope="module")
def plain(browser, tmp_path_factory):
    """JupyterLab without the project's settings."""
    folder = tmp_path_factory.mktemp("plain")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    with running_lab(folder, settings="defaults") as address:
        yield address


def test_without_the_starter_names_are_cut_lines_are_long_and_the_source_is_in_the_way(desk, plain):
    """The wrong twin: each check of the first minute fails in JupyterLab as it comes."""
    desk.goto(plain.format("00_quick_reference"))
    desk.wait_for_selector(".jp-Notebook .jp-RenderedMarkdown p")
    desk.locator(".jp-DirListing-itemText").first.wait_for()
    assert "src" in desk.locator(".jp-DirListing-itemText").all_inner_texts()
    assert desk.evaluate(
        "() => [...document.querySelectorAll('.jp-DirListing-itemText')].some(e => e.scrollWidth > e.clientWidth)"
    )
    assert desk.evaluate(LINE_LENGTHS)[0] > 120


@pytest.mark.smoke
def test_the_first_lesson_runs_and_its_slider_moves(lab, page):
    """What make test sees of the browser: the starter, lesson 00 run from top to bottom, one slider dragged."""
    page.goto(lab.format("00_quick_reference"))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", polling=200
    )
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_selector(".fm-player[data-drawn] canvas", timeout=120_000)
    player = page.locator(".fm-player").first
    slider = player.locator("input[type=range]").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    seen = []
    for end in (0.1, 0.9):
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        page.wait_for_function(
            "([p, end]) => Math.abs(Number(p.dataset.t) - end) < 0.05", arg=[player.element_handle(), end]
        )
        seen.append(player.locator("canvas").first.evaluate("c => c.toDataURL()"))
    assert seen[0] != seen[1]
    assert page.errors == []
