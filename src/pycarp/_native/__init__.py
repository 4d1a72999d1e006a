"""The compiled implementation: packet, input_, auth, machine, built from `ext/`. Same names and behaviour as `_python`.

Absent from a pure build. The work is in functions that need no interpreter; Python objects are made at the border only.
"""
