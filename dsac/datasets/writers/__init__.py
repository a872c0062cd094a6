"""Scenes out: a module each format, as those in `dsac.datasets.formats` read them."""
