"""Where the files of an export lie: TensorFlow Serving's layout of versions, and a file for each other runtime."""

import pathlib

SAVED_MODEL = "saved_model"  # the directory of the versions 1, 2, ...


def versions(directory: pathlib.Path) -> list[int]:
    """Return the versions in a directory of SavedModels, newest first: subdirectories named 1, 2, ...

    Other names, such as 01 or ², are no versions. A directory that is not there has none.
    """
    try:
        names = [path.name for path in directory.iterdir() if path.is_dir()]
    except OSError:
        return []
    numbers = [int(name) for name in names if name.isascii() and name.isdigit() and name == str(int(name))]
    return sorted(numbers, reverse=True)


def newest_saved_model(export: pathlib.Path) -> pathlib.Path | None:
    """Return the directory of the newest SavedModel of an export, or None if it has none."""
    found = versions(export / SAVED_MODEL)
    return export / SAVED_MODEL / str(found[0]) if found else None
