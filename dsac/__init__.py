"""Where was this photo taken? Small learned maps, a camera pose in milliseconds, and how far to trust it."""

__version__ = "0.1.0"
