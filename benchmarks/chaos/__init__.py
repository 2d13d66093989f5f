"""Kills a team again and again while it works, and has a stranger count what is lost: docs/reliability.md."""
