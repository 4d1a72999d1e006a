"""The health of what the addresses carry: `engine.health` runs checks, `Check` describes one.

Nothing here runs at import time.
"""
