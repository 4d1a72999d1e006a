"""The same for a worker that got its listener from its parent."""

import socketserver

from myhandler import Handler


def serve(listener):
    server = socketserver.ThreadingTCPServer(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()
