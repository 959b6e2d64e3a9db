"""What libhttp.so adds to a judge: seconds of a batch of 64 images to a server on this machine that answers at once.

    make build && .venv/bin/python Benchmarks/http_reward.py
"""
import http.server
import json
import pickle
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))
import dagcore

COUNT, ROUNDS = 64, 5
YES = json.dumps({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "Yes", "logprob": -0.1}]}]}}]}).encode()
PROTOCOLS = {"openai": ("model=m", YES), "flow_grpo": ("protocol=flow_grpo", pickle.dumps({"outputs": [1.0] * COUNT}))}


class Judge(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        """Says nothing."""


def seconds(images, settings, answer):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    server.answer, server.daemon_threads = answer, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    reward = dagcore.load_reward(f"{ROOT}/.build/release/libhttp.so,url=http://127.0.0.1:{server.server_address[1]},{settings}")
    times = []
    for _ in range(1 + ROUNDS):
        start = time.monotonic()
        reward(images, ["a fox"] * len(images))
        times.append(time.monotonic() - start)
    reward.close()
    server.shutdown()
    return statistics.median(times[1:])  # the first has no connection yet


rng = numpy.random.default_rng(1)
for side in (64, 512):
    noise = list(rng.integers(0, 256, (COUNT, side, side, 3), dtype=numpy.uint8))
    for name, (settings, answer) in PROTOCOLS.items():
        print(f"{side} x {side}, {name}: {seconds(noise, settings, answer):.3f} s")
