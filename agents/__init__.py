"""Minds: given a room, a transcript and the team's verbs, think and act."""
