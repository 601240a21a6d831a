"""What this processor and this build can do; compiled once, for the baseline."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)   /* gcc and clang */
    static int fastgd_has_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    #else
    static int fastgd_has_avx2(void) { return 0; }
    #endif

    #ifdef _OPENMP
    #define FASTGD_HAS_OPENMP 1
    #else
    #define FASTGD_HAS_OPENMP 0
    #endif
    """
    bint fastgd_has_avx2()
    bint FASTGD_HAS_OPENMP


def has_avx2():
    """Whether processor and operating system run AVX2 and FMA instructions."""
    return fastgd_has_avx2()


def has_openmp():
    """Whether the kernels were built with OpenMP."""
    return FASTGD_HAS_OPENMP
