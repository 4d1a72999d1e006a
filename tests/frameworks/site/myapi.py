"""The same for FastAPI."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, StreamingResponse

router = APIRouter()


async def ticks():
    while True:
        yield b"tick\n"
        await asyncio.sleep(0.05)


@router.get("/", response_class=PlainTextResponse)
async def name():
    return "main"


@router.get("/stream")
async def stream():
    return StreamingResponse(ticks())
