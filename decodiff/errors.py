"""The one error a user can cause."""


def printable(text: str) -> str:
    """The text in one line that every terminal and file takes: what is no visible character is written as its code.

    Names of files may hold line breaks, commands for a terminal, changes of the writing's direction, bytes that are no text.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii") for character in text
    )


class InputError(Exception):
    """Something given to the program cannot be used.

    The message is one line that names the file or the key, says what was expected and what to do. The command line prints it
    without a stack trace and exits with status 1.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))
