"""The two ways in which a command can end badly; each message is one line, written for the person who reads it."""


class OptstudyError(Exception):
    """The work failed. The command line prints the message alone and exits with status 1."""


class UsageError(OptstudyError):
    """What was asked for cannot be done as asked. The command line exits with status 2."""
