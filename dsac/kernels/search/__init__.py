"""From correspondences to poses in one call, in Numba, an image after the other: face.py has the functions."""
