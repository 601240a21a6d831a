"""What this processor and this build can do; compiled once, for the baseline."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)   /* gcc and clang */
    static int fastgd_has_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    /* VBMI2 is not used: it came with the processors whose clock does not suffer from long vectors */
    static int fastgd_has_avx512(void) {
        return fastgd_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512vbmi2");
    }
    #else
    static int fastgd_has_avx2(void) { return 0; }
    static int fastgd_has_avx512(void) { return 0; }
    #endif

    #ifdef _OPENMP
    #define FASTGD_HAS_OPENMP 1
    #else
    #define FASTGD_HAS_OPENMP 0
    #endif
    """
    bint fastgd_has_avx2()
    bint fastgd_has_avx512()
    bint FASTGD_HAS_OPENMP


def variants():
    """Names of the variants of the kernels that processor and operating system run, the fastest last."""
    return ["baseline"] + ["avx2"] * fastgd_has_avx2() + ["avx512"] * fastgd_has_avx512()


def has_openmp():
    """Whether the kernels were built with OpenMP."""
    return FASTGD_HAS_OPENMP
