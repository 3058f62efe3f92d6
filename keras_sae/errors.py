"""The error for what a user can mend."""


class InputError(ValueError):
    """A file, folder or setting cannot be used. The message says what was expected, what was received and the cure.

    Command lines print it as one line; anything else is a fault of ours and shows its stack trace.
    """
