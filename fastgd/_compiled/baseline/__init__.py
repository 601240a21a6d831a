"""Kernels for any processor of this architecture."""
