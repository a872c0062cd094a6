"""The functions of `reference.py` once more, in Numba: face.py has them by the same names."""
