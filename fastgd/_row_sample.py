"""Hessians from some of the rows: few while a descent is far from its end, ever more as it comes closer.

A Hessian is a sum over rows, and a metric need not be exact: where the minimum lies is said by values and
gradients, which are. Rows are taken with a probability in proportion to their curvature times their squared
length, and count the inverse of it, so that the few rows that alone have a rare category are among them
(sub-sampled Newton with non-uniform sampling, Xu, Yang, Roosta-Khorasani, Re & Mahoney 2016). Which rows
these are depends on nothing but their numbers; a larger sample holds the smaller one.
"""

import numpy as np

PER_COLUMN = 25  # rows per column of the first sample: a fifth off in any direction
GROWTH = 2  # of the sample from one metric to the next
GOLDEN = 0.6180339887498949  # its multiples modulo 1 are spread evenly, over every n-th row too
FEWEST_COLUMNS = 32  # with fewer, the Gram matrix of all rows costs less than the rows' lengths
ROWS_AT_A_TIME = 16384


class RowSample:
    """The rows of which the next Hessian is made.

    Parameters
    ----------
    lengths : ndarray of shape (m,)
        Squared lengths of the rows, the intercept's 1 included.
    d : int
        Number of columns.
    """

    def __init__(self, lengths, d):
        self.lengths, self.d, self.size = lengths, d, PER_COLUMN * d

    @classmethod
    def of(cls, problem):
        """None where the Hessian of all rows is to be preferred."""
        m, d = problem.X.shape
        wanted = problem.rows_at_hand and not problem.loss.coupled and d >= FEWEST_COLUMNS
        if not wanted or not _pays(PER_COLUMN * d, m):
            return None
        lengths = problem.row_norms(1)
        lengths += 1
        return cls(lengths.astype(np.float32), d)

    def anew(self):
        """The first sample, for another descent over the same rows."""
        return RowSample(self.lengths, self.d)

    @property
    def share(self):
        """Of the rows."""
        m = len(self.lengths)
        return self.size / m if _pays(self.size, m) else 1.0

    def of_curvature(self, h):
        """Curvatures (m,), most of them zero, whose Hessian is on average that of h, the rows' own."""
        if self.share == 1:
            return h
        m = len(self.lengths)
        picked = np.zeros(m)
        parts = [slice(first, min(first + ROWS_AT_A_TIME, m)) for first in range(0, m, ROWS_AT_A_TIME)]
        total = sum(self._matter(h, part).sum() for part in parts) or 1.0
        for part in parts:
            chance = np.minimum(self._matter(h, part) * (self.size / total), 1.0)
            place = GOLDEN * np.arange(part.start + 1, part.stop + 1) % 1.0
            np.divide(h[part], chance, out=picked[part], where=place < chance)
        return picked

    def _matter(self, h, part):
        """How much rows matter to the Hessian with curvatures h."""
        return h[part] * self.lengths[part].astype(np.float64)

    def grow(self):
        self.size *= GROWTH


def _pays(size, m):
    return 2 * size < m
