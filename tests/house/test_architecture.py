"""The house: who may import whom, what `import fmlib` brings, and where the README's numbers lead."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("matplotlib", "ipywidgets", "anywidget", "sklearn", "fsrs", "yaml", "IPython")


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter on the copy of the house in `folder`, with the contracts of pyproject.toml."""
    command = [sys.executable, "-m", "importlinter.cli", "lint-imports", "--no-cache"]
    code = "import sys; from importlinter.cli import lint_imports_command; sys.argv[1:] = ['--no-cache']; lint_imports_command()"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder), "PATH": ""})
