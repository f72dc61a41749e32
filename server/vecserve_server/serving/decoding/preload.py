"""Set-up of the fork server, from which decode workers are forked; imported there only.

What it has loaded all workers share, and they start in milliseconds.
"""

import os
import signal

from PIL import Image

# NumPy's BLAS would start a thread a core: nothing here needs them, and a fork loses them.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# The end of the server's pipe ends the fork server, and that the workers. A signal to the whole
# group (Ctrl-C, systemd) must not take away what the server still answers with.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Image.init()  # load the decoders
