"""Make the scripts that widgets send smaller: `make scripts`, after a change in fmlib/page/static/."""

import sys
from pathlib import Path

import minify  # of tdewolff-minify; the Makefile installs it

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from fmlib.page.scripts import STATIC, join, mark  # noqa: E402

BUILT = STATIC / "built"


def main() -> None:
    BUILT.mkdir(exist_ok=True)
    for name in ("lab", "player", "predict"):
        text = join(name)
        small = minify.string("application/javascript", text)
        (BUILT / f"{name}.js").write_text(f"{mark(text)}\n{small}\n", encoding="utf-8", newline="\n")
        print(f"{name}: {len(text.encode()):,} -> {len(small.encode()):,} bytes")


if __name__ == "__main__":
    main()
