"""The reference implementation, in plain Python: the core (packet, input, auth, machine), spawn, runtime and guardian.

`ext/` holds its compiled twin.

A change of behaviour lands in both, in one commit; the tests replay the same traces through the two.
"""
