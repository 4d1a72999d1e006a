"""The same for aiohttp."""

import asyncio

from aiohttp import web

routes = web.RouteTableDef()


@routes.get("/")
async def name(request):
    return web.Response(text="main")


@routes.get("/stream")
async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"tick\n")
        await asyncio.sleep(0.05)
