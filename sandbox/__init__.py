"""Rooms where untrusted commands run. Knows nothing of agents, tests or git policy."""
