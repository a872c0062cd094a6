"""The same search in torch, all images of a batch together, for a device: solver.py has the functions."""
