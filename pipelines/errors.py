"""What the command line prints as one line, without a traceback."""


class UserError(Exception):
    """A wrong path, flag, file or label: the message says what was expected, what came, what to do."""


class UsageError(UserError):
    """A flag that cannot be: known before anything was looked at, and answered with exit status 2."""


def describe_os_error(error: OSError, place: str) -> str:
    """What went wrong at ``place`` (a full disk, a missing permission), and what to do."""
    return (
        f"{place}: {error.strerror or error}: remove the cause and type the same command again; "
        "what was completed is kept"
    )
