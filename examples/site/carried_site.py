"""An ASGI site that carries its own address, and hands it over before it drains.

    uvicorn --host 0.0.0.0 --port 80 --app-dir examples/site carried_site:app # or hypercorn, granian

As root on each host, with the secret in CARP_PASSPHRASE; CARP_ADVSKEW=100 on the second.
"""

import os
import socket

import pycarp
from pycarp.asgi import EngineMiddleware


async def site(scope, receive, send):
    """Says which host answers."""
    if scope["type"] != "http":
        return
    body = f"{os.environ.get('CARP_HOST') or socket.gethostname()} answers\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


host = pycarp.VirtualHost(
    vhid=80,
    passphrase=os.environ["CARP_PASSPHRASE"],
    addresses=[os.environ.get("CARP_ADDRESS", "10.13.37.80/24")],
    advskew=int(os.environ.get("CARP_ADVSKEW", "0")),
)
app = EngineMiddleware(site, lambda: pycarp.Engine(host, wait=10))
