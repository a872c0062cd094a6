"""Guests of the library: what it is measured with and beside, behind the command line alone."""
