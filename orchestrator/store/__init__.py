"""The run's state: schema, writer, and the one place that turns rows into records and back."""

from orchestrator.store.store import Fenced, NewerState, Store, StoreError, Tx, reading

__all__ = ["Fenced", "NewerState", "Store", "StoreError", "Tx", "reading"]
