"""`python -m dsac`: the command, where its script is not on the path."""

import sys

from dsac.cli import main

sys.exit(main())
