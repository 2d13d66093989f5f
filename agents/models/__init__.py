"""Models behind one Protocol; adapters are imported when they are chosen."""
