"""The one error a user can cause."""


class InputError(Exception):
    """Something given to the program cannot be used.

    The message is one line that names the file or the key, says what was expected and what to do. The command line prints it
    without a stack trace and exits with status 1.
    """
