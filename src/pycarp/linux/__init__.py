"""What touches Linux: interfaces, addresses, sockets, locks. Nothing here runs at import time.

Every function acts on the network namespace of the calling thread. Two modules keep state between calls: `lock` knows
this process's own locks, `guardian_client` the guardians that have not been waited for.

Thread: any caller; an object belongs to the thread that uses it
"""
