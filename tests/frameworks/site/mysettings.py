"""The same for Django: its settings, with views and URLs."""

import asyncio

ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysettings"
SECRET_KEY = "of a test"


async def ticks():
    while True:
        yield b"tick\n"
        await asyncio.sleep(0.05)


async def name(request):
    from django.http import HttpResponse

    return HttpResponse("main")


async def stream(request):
    from django.http import StreamingHttpResponse

    return StreamingHttpResponse(ticks())


def __getattr__(name):
    """Django's URLs cannot be made before its settings are read."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path

    return [path("", globals()["name"]), path("stream", stream)]
