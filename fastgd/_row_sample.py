"""Hessians from some of the rows: few while a descent is far from its end, ever more as it comes closer.

A Hessian is a sum over rows, and a metric need not be exact: where the minimum lies is said by values and
gradients, which are. Rows are taken with a probability in proportion to their curvature times their squared
length, and count the inverse of it, so that the few rows that alone have a rare category are among them
(sub-sampled Newton with non-uniform sampling, Xu, Yang, Roosta-Khorasani, Re & Mahoney 2016). Which rows
these are depends on nothing but their numbers; a larger sample holds the smaller one.
"""

import copy

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
    m, d : int
        Numbers of rows and columns.
    lengths : ndarray of shape (m,) or None
        Squared lengths of the rows, the intercept's 1 included; None where the rows are elsewhere.

    Attributes
    ----------
    first : int
        Number of the first of the rows whose lengths are here, a `piece` of all.
    """

    first = 0

    def __init__(self, m, d, lengths):
        self.m, self.d, self.lengths, self.size = m, d, lengths, PER_COLUMN * d

    @classmethod
    def of(cls, problem):
        """None where the Hessian of all rows is to be preferred."""
        m, d = problem.X.shape
        if problem.loss.coupled or d < FEWEST_COLUMNS or not _pays(PER_COLUMN * d, m):
            return None
        return cls(m, d, problem.row_lengths())

    def anew(self):
        """The first sample, for another descent over the same rows."""
        return RowSample(self.m, self.d, self.lengths)

    def piece(self, lengths, first):
        """The same sample for some of the rows."""
        other = copy.copy(self)
        other.lengths, other.first = lengths, first
        return other

    @property
    def share(self):
        """Of the rows."""
        return self.size / self.m if _pays(self.size, self.m) else 1.0

    def of_curvature(self, h, total=None):
        """Curvatures (m,), most of them zero, whose Hessian is on average that of h, the rows' own.

        total : `matter` of all rows, where a piece of them is here
        """
        if self.share == 1:
            return h
        picked = np.zeros(len(h))
        total = (matter(h, self.lengths) if total is None else total) or 1.0
        for part, matters in _by_parts(h, self.lengths):
            chance = np.minimum(matters * (self.size / total), 1.0)
            place = GOLDEN * np.arange(self.first + part.start + 1, self.first + part.stop + 1) % 1.0
            np.divide(h[part], chance, out=picked[part], where=place < chance)
        return picked

    def grow(self):
        self.size *= GROWTH


def matter(h, lengths):
    """How much rows matter, all together, to the Hessian with curvatures h."""
    return float(sum(matters.sum() for _, matters in _by_parts(h, lengths)))


def _by_parts(h, lengths):
    """Some rows at a time, and how much each of them matters."""
    for first in range(0, len(h), ROWS_AT_A_TIME):
        part = slice(first, min(first + ROWS_AT_A_TIME, len(h)))
        yield part, h[part] * lengths[part].astype(np.float64)


def _pays(size, m):
    return 2 * size < m
