"""Chromium's flags, and a JupyterLab of our own on the loopback interface; for the tests and the benchmark."""

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
def running_lab(folder: Path):
    """Start JupyterLab over folder / "notebooks"; yield the address of a notebook, with {} for its name; stop it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {**os.environ, **{f"JUPYTER_{k}_DIR": str(folder / k) for k in ("CONFIG", "RUNTIME", "DATA")}}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        f"--IdentityProvider.token={TOKEN}", f"--notebook-dir={folder / 'notebooks'}", "--expose-app-in-browser",
        "--LabApp.news_url=None", "--allow-root",
    ]  # fmt: skip
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise RuntimeError("JupyterLab did not start:\n" + (folder / "log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}.ipynb?token={TOKEN}&reset"
    finally:
        server.terminate()
        server.wait(timeout=20)
