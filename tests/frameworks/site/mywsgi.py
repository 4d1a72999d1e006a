"""The same for WSGI."""

import time


def stream():
    while True:
        yield b"tick\n"
        time.sleep(0.05)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stream() if environ["PATH_INFO"] == "/stream" else [b"main"]
