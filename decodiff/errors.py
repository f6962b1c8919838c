"""The one error a user can cause."""


class InputError(Exception):
    """Something given to the program cannot be used.

    The message is one line that names the file or the key, says what was expected and what to do. The command line prints it
    without a stack trace and exits with status 1.
    """

    def __init__(self, message: str):
        # names of files and what libraries say may hold line breaks
        super().__init__(" ".join(message.splitlines()))
