"""`UserError`: what the command line prints as one line, without a traceback."""


class UserError(Exception):
    """A wrong path, flag, file or label: the message says what was expected, what came, what to do."""
