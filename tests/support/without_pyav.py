"""A server where PyAV is not installed. Run it as `vecserve-server` is run."""

import sys
from typing import Any

modules: dict[str, Any] = sys.modules
modules["av"] = None

from vecserve_server.run import run  # noqa: E402  after PyAV is gone

if __name__ == "__main__":
    run()
