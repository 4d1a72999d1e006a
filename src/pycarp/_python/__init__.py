"""The reference implementation, in plain Python: packet, input_, auth, machine. `ext/` holds its compiled twin.

A change of behaviour lands in both, in one commit; the tests replay the same traces through the two.
"""
