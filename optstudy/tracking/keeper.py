"""Keep a server only as long as the process that started it: ``python keeper.py PROGRAM ...``.

However that process ends, by a signal too that it cannot catch, its end of this one's standard input closes. Then the
whole process group is killed, with the processes that the server started. This file is run as a program.
"""

import os
import signal
import subprocess
import sys
import threading


def _kill_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the program until it ends, or until standard input does."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # the server ends upon it, and this with the server
    threading.Thread(target=_kill_at_end_of_input, daemon=True).start()
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603  # optstudy's own arguments
    sys.exit(server.wait())


if __name__ == "__main__":
    main()
