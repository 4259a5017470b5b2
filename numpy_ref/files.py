"""Writing a file so that nobody ever sees half of it."""

import contextlib
import os
from pathlib import Path

from numpy_ref.errors import DiskError

DEFINITION = "files are bytes: nothing to compute twice"

PARTIAL = ".partial"  # what the name of an unfinished file ends in


def replace(path, write, before=None):
    """Give ``path`` new contents in one step: ``write(file)`` fills a file beside it, which is then renamed over it.

    A reader meets either the old file or the new one, also after a crash: the new bytes are on the disk (fsync)
    before the name changes hands, and the folder with the new name right after. When anything fails, the old file is
    untouched and the partial one is removed.
    ``before()``, where given, is called between the two: the new file is whole, the old one still has its name.
    Raises DiskError when the file system refuses (full, read-only, not a folder, ...).
    """
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if before:
            before()
        os.replace(partial, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise refusal(path, error) from None
        raise


def _sync_folder(folder):
    """Put the names in a folder on the disk; where a system can't (Windows), it is left out."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refusal(path, error):
    """The DiskError for an OSError met while writing ``path``."""
    reason = error.strerror or str(error)
    return DiskError(f"cannot write {path}: {reason}; free some space or choose another folder with --out")
