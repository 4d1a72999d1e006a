"""The compiled implementation, built from `ext/`: the core (packet, input, auth, machine), spawn, runtime and guardian.

Same names and behaviour as `_python`.

Absent from a pure build. The work is in functions that need no interpreter; Python objects are made at the border only.
"""
