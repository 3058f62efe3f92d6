"""The folder of an extraction that is under way, beside the file to be: nothing is lost by a kill at any moment.

The folder .NAME.parts holds
    record.json      what is being computed, of what, with which model: another command is refused
    OUTPUT.npy       the rows of each output so far, appended
    progress.json    how many of these are on the disk for certain (any others are cut off and computed again);
                     and whether the file is whole
    NAME             the file in the making. After a kill, a Parquet file is written anew from the rows above.
A file that is whole takes its place by a rename, and then the folder goes. A kill between the two leaves a folder that
is whole without the file: nothing is left to do.
"""

import contextlib
import json
import os
import shutil

from keras_sae.errors import InputError
from keras_sae.files import to_disk, write_json

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


class Parts:
    """The folder of an extraction that is under way.

    place: the path of the file to make.  record: name of a setting -> value, all that the result depends on.
    """

    def __init__(self, place, record, labels=None):
        """labels: the path of the file of labels to put beside it, or None."""
        self.place, self.record, self.labels = place, record, labels
        self.folder = place.parent / f".{place.name}.parts"
        self.aside = self.folder / place.name
        self.labels_aside = self.folder / "labels"

    def __enter__(self):
        """Make the folder, or take up the one of an earlier run of the same command. Raises InputError for another."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Expected a place that can be written to. Received: {self.place} ({error.strerror})."
            ) from error
        self._lock()
        shutil.rmtree(self.cache, ignore_errors=True)
        path = self.folder / "record.json"
        if self.progress()["rows"]:
            self._compare(json.loads(path.read_text()))
            self.write_progress(**self.progress() | {"whole": self.whole()})  # not, where somebody took the file away
        write_json(path, self.record)
        return self

    def __exit__(self, *_):
        """Leave the folder where rows in it are safe, and nothing where none are."""
        os.close(self._locked)
        shutil.rmtree(self.cache if self.progress()["rows"] else self.folder, ignore_errors=True)

    def _lock(self):
        """One process at a time; the lock goes with the process, however it ends. (Windows has none.)"""
        self._locked = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._locked)
            raise InputError(
                f"Expected one command at a time to write {self.place}. Received: another that is writing it. Wait for "
                "it, or stop it."
            ) from error

    def _compare(self, earlier):
        changed = [name for name in self.record if earlier.get(name) != self.record[name]]
        if changed:
            raise InputError(
                f"Expected the command and the files that {self.folder} was begun with. Received: another "
                f"{', '.join(changed)}. Give the first again to go on, or delete that folder to start anew."
            )

    @property
    def cache(self):
        """A folder for the reader's files, on the same disk."""
        return self.folder / "rows"

    def progress(self):
        """{"rows": that are safe, "total": of how many, "whole": whether the file is ready}."""
        path = self.folder / "progress.json"
        return json.loads(path.read_text()) if path.exists() else {"rows": 0, "total": None, "whole": False}

    def write_progress(self, rows, total, whole=False):
        write_json(self.folder / "progress.json", {"rows": rows, "total": total, "whole": whole})

    def refuse_what_exists(self, overwrite):
        """Raise InputError where a file of this name is there, unless it is ours or may go."""
        whole = self.progress()["whole"]
        ours = whole and not self.aside.exists()
        for path in (self.place,) if whole or not self.labels else (self.place, self.labels):
            if path.exists() and not overwrite and not ours:
                raise InputError(
                    f"Expected a new file to write to. Received: {path}, which exists. Nothing was changed. Name "
                    "another, or add --overwrite."
                )

    def whole(self):
        """Whether an earlier run was killed when the file had only to be put in its place, or the folder removed."""
        return self.progress()["whole"] and (self.aside.exists() or self.place.exists())

    def publish(self):
        """Put a file that is whole in its place, and its labels beside it; nothing, where that was done before."""
        if self.labels_aside.exists():
            os.replace(self.labels_aside, self.labels)
        if self.aside.exists():
            os.replace(self.aside, self.place)
        if os.name == "posix":  # Windows cannot open folders
            to_disk(self.place.parent)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def naming(folder):
    """Give the errors of writing, which name no file, the name of the folder."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise
