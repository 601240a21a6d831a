"""The one error of the field that has no name in Python or scikit-learn."""


class DivergenceError(FloatingPointError):
    """The descent ran away from the minimum: its learning rate is too large.

    Raised by ``fit`` and ``partial_fit``; the estimator is then as it was before the call. The
    message names the learning rate in use, the largest stable one where it is known, and what to
    change.
    """
