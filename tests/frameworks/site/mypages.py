"""The same for Starlette."""

import asyncio

from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route


async def ticks():
    while True:
        yield b"tick\n"
        await asyncio.sleep(0.05)


async def name(request):
    return PlainTextResponse("main")


async def stream(request):
    return StreamingResponse(ticks())


routes = [Route("/", name), Route("/stream", stream)]
