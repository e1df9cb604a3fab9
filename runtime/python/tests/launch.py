"""Starts guest.py as a sandbox does, except for two settings: where the handler lies, and which descriptor is the worker's.

    python3 -S launch.py GUEST HANDLER_DIR FD
"""

import sys

del sys.path[0]  # as guest.py does

import os

guest, handler, fd = sys.argv[1], sys.argv[2], int(sys.argv[3])
if fd != 3:
    os.dup2(fd, 3)
    os.close(fd)
os.chdir(handler)
sys.argv = [guest]
module = type(sys)("__main__")
module.__file__ = guest
sys.modules["__main__"] = module
with open(guest, "rb") as file:
    code = compile(file.read().replace(b'if __name__ == "__main__":', b"if False:"), guest, "exec")
exec(code, module.__dict__)
module.HANDLER = handler
module.main()
