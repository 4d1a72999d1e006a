"""The health of what the addresses carry. Nothing here runs at import time."""
