"""Starts guest.py as docs/reference/guest-protocol.md says, with its connection as descriptor 3.

    python3 -S launch.py GUEST HANDLER_DIR FD
"""

import os
import sys

guest, handler, fd = sys.argv[1], sys.argv[2], int(sys.argv[3])
if fd != 3:
    os.dup2(fd, 3)
    os.close(fd)
os.execv(sys.executable, [sys.executable, "-S", guest, handler])
