"""Files that a reader must not lose: written whole or not at all, and damaged ones put aside."""

import os
from contextlib import suppress
from pathlib import Path


def write_atomically(data: bytes | memoryview, path: Path) -> None:
    """Write beside `path`, force it to the disk, then rename: a reader sees the old file or the new one, no half.

    Makes the folder if it is missing. Raises OSError, and then the old file is intact.
    """
    temp = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except OSError:
        with suppress(OSError):
            temp.unlink()
        raise


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used to the first free name of `<name>.aside-1`, `-2`, ...; returns the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside
