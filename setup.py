"""Builds src/*.pyx into fastgd/_compiled; all that can be declared is in pyproject.toml.

Each kernel module is compiled thrice from one source: for any processor of the architecture
(`baseline`) and, on x86-64, for AVX2 + FMA (`avx2`) and AVX-512 (`avx512`). fastgd/_compiled chooses
at import. What Cython would write into every module is compiled once, as a module that all share.

Environment: FASTGD_OPENMP=0 builds without OpenMP.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

import Cython
import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

KERNELS = ["linear", "quadratic", "epochs", "network", "dense", "grid", "moments"]  # src/<name>.pyx

LONG_VECTORS = "-mprefer-vector-width=512"  # gcc's and clang's choice without it is 256
IN_BETWEEN = {"epochs"}  # vectors now and then, between single rows: long ones slow down what follows them
VARIANTS = {"baseline": []}
if sysconfig.get_platform().endswith("x86_64"):  # not win-amd64, whose compiler has other flags
    VARIANTS["avx2"] = ["-mavx2", "-mfma"]
    VARIANTS["avx512"] = ["-mfma", *(f"-mavx512{part}" for part in ("f", "dq", "vl", "bw"))]

# Never -ffast-math or -Ofast: gcc would link code that flushes denormals in the whole process.
# Giving up errno and traps lets loops with sqrt and comparisons vectorise; NaN and inf remain.
# -g0: Python's own flags may ask for debugging symbols, of which there would be four times the code.
FLAGS = ["-O3", "-g0", "-Wall", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}

PACKAGE = "fastgd._compiled"
SHARED = f"{PACKAGE}.shared"  # Cython's own code, half of what it would generate for a kernel
GENERATED = Path("build/cython")  # C files live here, never beside their sources
STAMP = GENERATED / "flags.txt"


def extension(name, source, flags=()):
    return Extension(
        f"{PACKAGE}.{name}",
        [f"src/{source}.pyx"],
        include_dirs=["src", np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=sorted(path for kind in ("pxd", "h", "def") for path in glob(f"src/*.{kind}")),
        extra_compile_args=list(flags),
    )


def long_vectors(name, variant):
    return [LONG_VECTORS] if variant == "avx512" and name not in IN_BETWEEN else []


class BuildKernels(build_ext):
    """build_ext that keeps C files apart by variant, works in parallel, and looks for OpenMP."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        if self.compiler.compiler_type == "unix":  # gcc and clang
            openmp = ["-fopenmp"] if self.wants_openmp() else []
            for ext in self.extensions:
                ext.extra_compile_args = FLAGS + openmp + ext.extra_compile_args
                ext.extra_link_args = openmp
        self.depend_on_flags()
        super().build_extensions()

    def build_extension(self, ext):
        """Translate in a process of its own: in threads, Cython would hold the GIL."""
        c_file = (GENERATED / ext.name.replace(".", "/")).with_suffix(".c")
        if self.force or newer_group([*ext.sources, *ext.depends], str(c_file)):
            c_file.parent.mkdir(parents=True, exist_ok=True)
            if ext.name == SHARED:
                options = ["--generate-shared", str(c_file), "--module-name", SHARED]
            else:
                directives = ",".join(f"{name}={value}" for name, value in DIRECTIVES.items())
                options = ["-I", "src", "-X", directives, "--module-name", ext.name, "--shared", SHARED]
                options += ["-o", str(c_file), *ext.sources]
            subprocess.run([sys.executable, "-m", "cython", *options], check=True)
        ext.sources = [str(c_file)]
        super().build_extension(ext)

    def wants_openmp(self):
        if os.environ.get("FASTGD_OPENMP") == "0":
            return False
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text("#include <omp.h>\nint main(void) { omp_get_max_threads(); }")
            try:
                objects = self.compiler.compile([str(probe)], folder, extra_preargs=["-fopenmp"])
                self.compiler.link_executable(objects, "probe", folder, extra_postargs=["-fopenmp"])
            except Exception as error:  # each compiler has its own way to fail
                print(f"fastgd: no OpenMP ({error}); the kernels will use one thread")
                return False
        return True

    def depend_on_flags(self):
        """Rebuild when flags or Cython change; by itself setuptools compares only the age of files."""
        flags = "\n".join(f"{ext.name} {ext.extra_compile_args}" for ext in self.extensions)
        flags += f"\nCython {Cython.__version__} {DIRECTIVES} {SHARED}"
        GENERATED.mkdir(parents=True, exist_ok=True)
        if not STAMP.exists() or STAMP.read_text() != flags:
            STAMP.write_text(flags)
        for ext in self.extensions:
            ext.depends.append(str(STAMP))


if __name__ == "__main__":
    kernels = [
        extension(f"{variant}.{name}", name, [*flags, *long_vectors(name, variant)])
        for name in KERNELS
        for variant, flags in VARIANTS.items()
    ]
    others = [extension("cpu", "cpu"), Extension(SHARED, [])]
    setup(ext_modules=[*kernels, *others], cmdclass={"build_ext": BuildKernels})
