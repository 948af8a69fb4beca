"""`python -m fmlib lab`, or `fmlib lab`: the lessons in JupyterLab."""

import argparse
import sys
from pathlib import Path

from fmlib.jupyter.starter import Refused, start_lab


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fmlib", description="Flow matching, executed.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lab = commands.add_parser("lab", help="open the lessons in JupyterLab", description=start_lab.__doc__)
    lab.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="of notebooks; this project's if not given")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.add_argument(
        "--port", type=int, metavar="N", help="this port and no other (if not given: 8888 or the next free)"
    )
    options = parser.parse_args(arguments)
    try:
        return start_lab(options.folder, browser=not options.no_browser, port=options.port)
    except Refused as error:
        print(f"fmlib lab: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
