"""Modules whose doctests need a package that is not there are left out."""

from importlib.util import find_spec

CLUSTER = ["fastgd/dask.py", "fastgd/_collections.py", "fastgd/_distributed.py", "fastgd/_on_workers.py"]
collect_ignore = [] if find_spec("distributed") else CLUSTER
