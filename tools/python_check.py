"""Say, before anything is installed, whether this Python and system can run the lessons.

python tools/python_check.py     runs on every Python from 3.6 on
"""

import platform
import sys

OLDEST, NEWEST = (3, 11), (3, 14)  # as in pyproject.toml; tests/house/test_install.py compares


def problem(version, system, machine, release):
    """What is in the way, and what to do; None if nothing is. version: (3, 12); release: of macOS, such as "14.5"."""
    if not OLDEST <= version <= NEWEST:
        return (
            f"Python {name(OLDEST)} to {name(NEWEST)} is needed, {sys.executable} is {name(version)}. "
            "Name another: make PYTHON=python3.13 lab. If it is the one in .venv, delete that folder first."
        )
    if system == "Darwin" and machine == "x86_64":
        return (
            "PyTorch has no packages for Intel Macs any more: use Linux there, in a virtual machine. "
            f"If this Mac has Apple silicon, {sys.executable} was made for Intel: take a Python for arm64."
        )
    if system == "Darwin" and release and int(release.split(".")[0]) < 14:
        return f"PyTorch 2.13 needs macOS 14 or newer, this is {release}: update it, or use Linux in a virtual machine."
    return None


def name(version):
    return f"{version[0]}.{version[1]}"


if __name__ == "__main__":
    sys.exit(problem(sys.version_info[:2], platform.system(), platform.machine(), platform.mac_ver()[0]))
