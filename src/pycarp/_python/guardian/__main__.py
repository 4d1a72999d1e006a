"""Starts the guardian: `python -I -S __main__.py 1`, or 0 for no real-time priority.

The package pycarp is not imported: that takes longer than all the rest. So the modules beside this file form a package
of their own.
"""

import sys

if __name__ == "__main__":
    package = type(sys)("guardian")
    package.__path__ = [__file__.rpartition("/")[0]]
    sys.modules["guardian"] = package
    __import__("guardian.main", fromlist=["main"]).run_program()
