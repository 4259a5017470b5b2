"""Writing a file so that nobody ever sees half of it."""

import contextlib
import os
from pathlib import Path

from numpy_ref.errors import UserError

DEFINITION = "files are bytes: nothing to compute twice"


def replace(path, write):
    """Give ``path`` new contents in one step: ``write(file)`` fills a file beside it, which is then renamed over it.

    A reader meets either the old file or the new one, also after a crash: the new bytes are on the disk (fsync)
    before the name changes hands. When anything fails, the old file is untouched and the partial one is removed.
    Raises UserError when the file system refuses (full, read-only, not a folder, ...).
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise refusal(path, error) from None
        raise


def refusal(path, error):
    """The UserError for an OSError met while writing ``path``."""
    reason = error.strerror or str(error)
    return UserError(f"cannot write {path}: {reason}; free some space or choose another folder with --out")
