"""Logistic regression on a file that is read in pieces: Parquet or CSV, in constant memory.

    python examples/stream_parquet.py                         a table of 480 MB, made for the occasion
    python examples/stream_parquet.py flights.parquet late    a file of yours, and its column of labels

Every batch of rows that pyarrow reads is one call of `partial_fit`; one batch is in memory at a time.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from rich.progress import Progress, TextColumn

from fastgd import GDClassifier

ROWS = 20_000  # of a batch


def batches(path):
    """Batches of rows of a file, and the share of the file that is read by then."""
    if path.suffix == ".csv":
        with path.open("rb") as file, csv.open_csv(file) as reader:
            for batch in reader:
                yield batch, min(file.tell() / path.stat().st_size, 1.0)
        return
    with parquet.ParquetFile(path, pre_buffer=False) as file:  # a buffer would come to hold the file
        rows = file.metadata.num_rows
        for number, batch in enumerate(file.iter_batches(ROWS, use_threads=False)):
            yield batch, min((number + 1) * ROWS / rows, 1.0)


def anonymous_memory():
    """Bytes of this process that belong to no file (Linux)."""
    return next(1024 * int(s.split()[1]) for s in Path("/proc/self/status").open() if "RssAnon" in s)


def make_file(path, rows=3_000_000, columns=20):
    """Columns of very different scales, and a label that depends on all of them."""
    rng, scales = np.random.default_rng(0), 10.0 ** np.linspace(-3, 3, columns)[:, None]
    schema = pa.schema({f"x{j}": pa.float64() for j in range(columns)} | {"late": pa.string()})
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for _ in range(0, rows, ROWS):
            X = rng.standard_normal((columns, ROWS))
            late = np.where(X.sum(axis=0) / 2 + rng.logistic(size=ROWS) > 1, "yes", "no")
            writer.write_table(pa.table([*((X + 1) * scales), late], schema))


def train(path, label):
    # the classes are announced: the first rows need not have them all
    classes = sorted({value for batch, _ in batches(path) for value in batch[label].unique().to_pylist()})
    model = GDClassifier(batch_size=32, alpha=1e-6, random_state=0)
    start = peak = anonymous_memory()
    right, rows, began = 0, 0, time.perf_counter()
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[state]}")) as progress:
        task = progress.add_task(path.name, total=1.0, state="")
        for batch, share in batches(path):
            columns = [batch[name].to_numpy() for name in batch.schema.names if name != label]
            X, y = np.column_stack(columns).astype(float, copy=False), batch[label].to_numpy(False)
            right += np.sum(model.predict(X) == y) if rows else 0  # rows not learned from yet
            model.partial_fit(X, y, classes=classes)
            rows, peak = rows + len(y), max(peak, anonymous_memory())
            progress.update(task, completed=share, state=f"loss {model.loss_curve_[-1]:.4f}")
    print(f"{rows} rows in {time.perf_counter() - began:.1f} s, {right / rows:.1%} told right when met")
    size, peak, growth = (f"{n / 1e6:.0f} MB" for n in (path.stat().st_size, peak, peak - start))
    print(f"{size} of file; peak of anonymous memory {peak}, {growth} more than before")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(Path(sys.argv[1]), sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_file(Path(folder) / "table.parquet")
            train(Path(folder) / "table.parquet", "late")
