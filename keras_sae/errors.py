"""The errors for what a user can fix."""


class InputError(ValueError):
    """A file, directory or setting cannot be used. The message says what was expected, what was received and the fix.

    Commands print it as one line; anything else is a fault of ours and shows its stack trace.
    """


class DivergedError(InputError, FloatingPointError):
    """The objective or the weights became NaN or infinite. The message says where, and what to lower."""


class NoImagesError(InputError):
    """There are options for images, to resize or to colour them, but the data hold none."""


class NoLabelsError(InputError):
    """Labels were asked for, but no row of the data has one."""


class MissingPackageError(InputError, ImportError):
    """An optional package is not installed. The message says which extra of this library brings it."""
