"""The same for socketserver."""

import http.server
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        while self.path == "/stream":
            self.wfile.write(b"tick\n")
            time.sleep(0.05)
        self.wfile.write(b"main")
