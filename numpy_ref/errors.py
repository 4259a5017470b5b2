"""The one error that people see: a clear line instead of a traceback."""

DEFINITION = "one exception class for both wings"


class UserError(Exception):
    """Input that can't be used. The message is one line: what was given, what is allowed, how to mend it.

    The command line prints it after "error: " and exits with status 2; library callers may catch it.
    """
