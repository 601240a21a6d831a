"""Kernels for x86-64 with AVX-512; empty on other architectures."""
