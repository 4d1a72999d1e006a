"""Programs that run when a virtual host changes its state. Nothing here runs at import time."""
