"""Whether a recording agrees with itself, and if not, which of the usual mistakes explains it."""

from dsac.checking.check import SceneCheck, check_scene

__all__ = ["SceneCheck", "check_scene"]
