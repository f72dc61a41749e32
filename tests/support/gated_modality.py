"""The toy modality's server, whose preparation says what it prepares and can be held up.

Everything is prepared on the event loop. A series that starts with -1 is held until somebody
opens the FIFO of the environment's VECSERVE_TEST_GATE for writing.
"""

import os
import sys
from pathlib import Path

from tests.support.toy_modality import Series, SeriesInput, SeriesModality
from vecserve_server.modalities.registry import MODALITIES
from vecserve_server.modalities.rows import Prepared


class GatedSeriesModality(SeriesModality):
    """A series that is prepared in sight."""

    def is_quick(self, content: Series) -> bool:
        """Whether it takes no thread: always."""
        return True

    def prepare(self, content: Series, *, refuse_truncation: bool) -> Prepared:
        """Read the numbers, once the gate is open."""
        print(f"preparing {content.text}", file=sys.stderr, flush=True)
        if content.text.startswith("-1"):
            Path(os.environ["VECSERVE_TEST_GATE"]).read_bytes()
        return super().prepare(content, refuse_truncation=refuse_truncation)


MODALITIES[SeriesInput] = GatedSeriesModality

if __name__ == "__main__":
    from vecserve_server.run import run

    run()
