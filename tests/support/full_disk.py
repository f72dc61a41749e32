"""A server whose files cannot grow past 100 kB, as on a full disk. Run as a module."""

import resource

from vecserve_server.__main__ import main

LARGEST_BYTES = 100_000

if __name__ == "__main__":
    # Python ignores the signal: what writes more gets an error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_BYTES, LARGEST_BYTES))
    main()
