"""The command `dsac`: a file a verb, which holds the verb's options, its help and what it does.

Only this package prints. Heavy imports stay in functions: `dsac --help` answers at once.
"""

from dsac.cli.main import main
from dsac.cli.process import keep_freed_memory

__all__ = ["keep_freed_memory", "main"]
