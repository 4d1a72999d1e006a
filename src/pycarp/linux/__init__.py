"""Everything that touches Linux: interfaces, addresses, sockets, namespaces. Nothing here runs at import time.

Every function acts on the calling thread's network namespace, and none keeps state between calls.
"""
