"""Kernels for x86-64 with AVX2 and FMA; empty on other architectures."""
