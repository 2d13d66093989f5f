"""Judges: a tree and a room in, a scorecard out. They know nothing of agents or money."""
