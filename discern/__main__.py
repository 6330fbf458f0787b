"""`python -m discern VERB` is `discern VERB`."""

import sys

from discern.cli import main

sys.exit(main())
