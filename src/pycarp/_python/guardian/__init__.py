"""The guardian in Python: the twin of `ext/guardian/`, under the same names.

It runs as a program of its own, see `__main__`. Nothing here imports pycarp; pycarp imports only `.protocol`.
"""
