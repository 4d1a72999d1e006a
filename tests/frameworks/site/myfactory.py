"""The same for Twisted."""

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


class Name(Resource):
    isLeaf = True

    def render_GET(self, request):
        if request.path == b"/stream":
            request.write(b"tick\n")
            return NOT_DONE_YET
        return b"main"


factory = Site(Name())
