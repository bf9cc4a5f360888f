"""The error of a demand that no design can meet."""


class InfeasibleError(ValueError):
    """What is asked for cannot be had: the message names device, constraint and the way out.

    The mean squared error can always be minimised (silence is a design); uniform forcing and a user's own
    constraints may ask too much.
    """
