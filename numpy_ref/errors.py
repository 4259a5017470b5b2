"""What people see when something is wrong: a clear line instead of a traceback."""

DEFINITION = "exception classes for both wings"


class UserError(Exception):
    """Input that can't be used. The message is one line: what was given, what is allowed, how to mend it.

    The command line prints it after "error: " and exits with status 2; library callers may catch it.
    """


class DiskError(UserError):
    """A file could not be written: the disk is full, read-only or gone. A run that meets it may go on and try again."""


class RunWarning(UserWarning):
    """Something went wrong and was mended: one line. The command line prints it after "warning: " and goes on."""


class BadSteps(UserError):
    """Too many steps in a row went wrong: a loss that is not finite, or an update that had to be skipped."""


def shown(value):
    """A value that somebody gave, for an error message: as Python writes it, its middle left out where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-30:]}"
