"""A project's folder: read, checked, locked and proved."""
