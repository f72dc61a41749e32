"""Log format: one line an event, on standard error."""

import logging
import time


def configure_logs(level: str) -> None:
    """Log everything of `level` and above, with times in UTC."""
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
    # Pillow warns of odd files, which is news about the file, not about us.
    logging.captureWarnings(True)
