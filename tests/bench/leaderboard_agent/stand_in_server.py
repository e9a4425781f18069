"""Plays CarlaUE4.sh: listens on its port until it is ended, or ends at once when told to."""

import os
import socket
import sys
import time
from pathlib import Path

state = Path(os.environ["STAND_IN_STATE"])
if (state / "server-broken").exists():
    sys.exit("Signal 11 caught.")
port = int(next(word for word in sys.argv if word.startswith("-carla-rpc-port=")).split("=")[1])
listener = socket.create_server(("127.0.0.1", port))
(state / "server.pid").write_text(str(os.getpid()))
(state / "servers").open("a").write("x")
time.sleep(600)
