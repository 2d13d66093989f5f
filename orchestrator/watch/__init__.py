"""What people see of a run, computed from its stored state and never from memory alone (P10)."""
