"""Where chunks of rows lie on the workers of a Dask cluster, and how sums over them come about.

One task per worker goes over all chunks there; results are added up in a tree. When a worker dies, Dask
computes its chunks anew, elsewhere, and the sum is given out again.
"""

import copy

import numpy as np

from ._coordinates import merged_moments

PATIENCE = 1.0  # seconds between two looks at whether all workers are alive
FAN_IN = 8  # results that one task of the tree adds up
LARGE = 65536  # bytes of parameters from which workers fetch them from each other


class Chunks:
    """Futures of chunks of X and of their `Targets`, and sums over them.

    Parameters
    ----------
    client : distributed.Client
    X, targets : lists of futures
    n_rows : list of int
    n_jobs : int or None
        Threads of a task; None takes those of its worker.
    """

    def __init__(self, client, X, targets, n_rows, n_jobs):
        self.client, self.X, self.targets = client, X, targets
        self.n_rows, self.n_jobs = n_rows, n_jobs
        self._workers, self._groups = None, []

    def groups(self):
        """(address, chunks) of every worker that has some; None is any worker, while there is none."""
        workers = sorted(self.client.nthreads())
        if workers != self._workers:  # at first, and when one died or joined
            holders = self.client.who_has(self.X)
            load, held = dict.fromkeys(workers, 0), {address: [] for address in workers}
            for i, future in enumerate(self.X):
                able = [address for address in holders.get(future.key, ()) if address in load]
                address = min(able or workers or [None], key=lambda a: load.get(a, 0))
                load[address] = load.get(address, 0) + self.n_rows[i]
                held.setdefault(address, []).append(i)
            self._groups = [(address, chunks) for address, chunks in held.items() if chunks]
            self._workers = workers
        return self._groups

    def beside_rows(self, task, arguments):
        """Futures of task(*arguments), one for each chunk, where its rows are.

        What is a result there stays there; of what only passes by as an argument, Dask's memory manager drops
        the copy after two seconds. If the worker is lost, any other will do.
        """
        homes = {i: address for address, chunks in self.groups() for i in chunks}
        return [
            self.client.submit(
                task, *of_chunk, pure=False, workers=homes[i] and [homes[i]],
                allow_other_workers=homes[i] is not None,
            )
            for i, of_chunk in enumerate(arguments)
        ]  # fmt: skip

    def over_groups(self, task, parameters, arguments=None):
        """Sum over workers of task(parameters, argument, X, targets, n_jobs).

        A task may run where its chunks are and nowhere else: Dask would balance the load by moving them. So
        when a worker is lost, what it had to do is given out anew.

        arguments : callable, from the number of workers to an argument for each
        """
        while True:
            groups = self.groups()
            root = self._submit(task, parameters, arguments, groups)
            while True:
                try:
                    total = root.result(timeout=PATIENCE)
                    return tuple(np.array(part) if isinstance(part, np.ndarray) else part for part in total)
                except TimeoutError:
                    alive = self.client.nthreads()
                    if any(address and address not in alive for address, _ in groups):
                        break
                except BaseException:  # which the client would keep, with its traceback and all rows there
                    root.release()
                    raise

    def over_columns(self, task, mean):
        """Sum over slices of the columns of task(slices of all chunks, mean of these columns).

        A slice is brought together on any worker, which is where each number of X travels once at most; what
        a worker that dies had to do, Dask gives to others. There is a slice for every thread, but none of
        fewer columns than there are rows, so that all sums (m, m) are no more numbers than X.
        """
        threads = sum(self.client.nthreads().values())
        n = max(1, min(threads, len(mean) // sum(self.n_rows)))
        ends = np.linspace(0, len(mean), n + 1).astype(int).tolist()
        sums = []
        for columns in map(slice, ends[:-1], ends[1:]):
            slices = self.beside_rows(_columns, [(X, columns) for X in self.X])
            sums.append(self.client.submit(task, slices, mean[columns], pure=False))
        root = self._tree(sums)
        try:
            return root.result()
        except BaseException:
            root.release()
            raise

    def of_columns(self, columns):
        """Some columns of all chunks, beside these."""
        other = copy.copy(self)
        columns = self.at_hand(columns)
        other.X = self.beside_rows(_columns, [(X, columns) for X in self.X])
        return other

    def at_hand(self, value):
        """Future of a value that many tasks take: workers fetch it from each other."""
        return self.client.submit(_same, value, pure=False)

    def _submit(self, task, parameters, arguments, groups):
        """Future of the sum, by a tree of tasks."""
        arguments = [None] * len(groups) if arguments is None else arguments(len(groups))
        if sum(value.nbytes for value in parameters if isinstance(value, np.ndarray)) > LARGE:
            parameters = self.at_hand(parameters)
        return self._tree([
            self.client.submit(
                task, parameters, argument, [self.X[i] for i in chunks],
                [self.targets[i] for i in chunks], self.n_jobs, pure=False, workers=address and [address],
            )
            for (address, chunks), argument in zip(groups, arguments, strict=True)
        ])  # fmt: skip

    def _tree(self, level):
        """Future of the sum of futures."""
        while len(level) > 1:
            parts = [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)]
            level = [self.client.submit(merged, part, pure=False) for part in parts]
        return level[0]


def _same(value):
    return value


def _columns(X, columns):
    return X[:, columns]


def merged(results):
    """Sum of tuples, number by number; None is nothing."""
    total = None
    for result in results:
        if result is None:
            continue
        total = result if total is None else tuple(map(_added, total, result))
    return total


def _added(a, b):
    """Sum of two arrays or summaries; moments, being tuples, are merged."""
    return merged_moments(a, b) if isinstance(a, tuple) else a + b
