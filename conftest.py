"""Modules whose doctests need a package that is not there are left out."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("distributed") else ["fastgd/dask.py", "fastgd/_distributed.py"]
