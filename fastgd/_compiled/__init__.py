"""The compiled kernels, in the variant that suits this processor.

Every kernel module exists in several variants (see setup.py): `baseline` runs on any processor of
this architecture, `avx2` on x86-64 with AVX2 and FMA, `avx512` with AVX-512. The environment variable
FASTGD_CPU names the one to take; without it the processor decides. `VARIANT` says which one it was.
"""

import os
from importlib import import_module


def _load(name):
    full_name = f"{__name__}.{name}"
    try:
        return import_module(full_name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(__name__):  # something else that the module needs
            raise
        raise ImportError(
            f"fastgd is not built: its compiled module {error.name} is missing from "
            f"{os.path.dirname(__file__)}. Build it with `pip install .` or `pip install -e .` in "
            "fastgd's source folder. If fastgd is installed elsewhere, do not start Python in the "
            "source folder, where the sources hide the installed package."
        ) from error


def _choose_variant():
    possible = _load("cpu").variants()
    variant = os.environ.get("FASTGD_CPU") or possible[-1]
    if variant not in possible:
        raise ImportError(
            f"FASTGD_CPU={variant!r} cannot be used: the possible values on this processor are "
            f"{', '.join(possible)}. Unset FASTGD_CPU to let fastgd choose."
        )
    return variant


VARIANT = _choose_variant()
linear = _load(f"{VARIANT}.linear")
quadratic = _load(f"{VARIANT}.quadratic")
epochs = _load(f"{VARIANT}.epochs")
dense = _load(f"{VARIANT}.dense")
network = _load(f"{VARIANT}.network")
grid = _load(f"{VARIANT}.grid")
moments = _load(f"{VARIANT}.moments")
