"""What touches Linux: interfaces, addresses, sockets, locks. Nothing here runs at import time.

Every function acts on the network namespace of the calling thread, and none keeps state between calls.

Thread: any caller; an object belongs to the thread that uses it
"""
