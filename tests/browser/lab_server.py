"""Chromium's flags, and a JupyterLab of our own on the loopback interface; for the tests and the benchmark."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --enable-precise-memory-info"
).split()
TOKEN = "browser-test"


@contextmanager
def running_lab(folder: Path, settings: str = "starter"):
    """Start JupyterLab over folder / "notebooks"; yield the address of a notebook, with {} for its name; stop it.

    settings: "starter" is what a reader of this project gets, python -m fmlib lab; "defaults" is plain JupyterLab.
    The test is a reader with settings of their own: they let a page's scripts see the application.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (folder / "CONFIG").mkdir(exist_ok=True)
    (folder / "CONFIG" / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))
    environment = {
        **os.environ,
        **{f"JUPYTER_{k}_DIR": str(folder / k) for k in ("CONFIG", "RUNTIME", "DATA")},
        "JUPYTER_TOKEN": TOKEN,
        "XDG_STATE_HOME": str(folder / "state"),
    }
    command = {
        "starter": [sys.executable, "-m", "fmlib", "lab", folder / "notebooks", "--no-browser", f"--port={port}"],
        "defaults": [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
            f"--notebook-dir={folder / 'notebooks'}", "--LabApp.news_url=None", "--allow-root",
        ],
    }[settings]  # fmt: skip
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
            if server.poll() is not None:
                break
        else:
            server.kill()
            server.wait()
        if server.poll() is not None:
            raise RuntimeError("JupyterLab did not start:\n" + (folder / "log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}.ipynb?token={TOKEN}&reset"
    finally:
        server.terminate()
        server.wait(timeout=20)
