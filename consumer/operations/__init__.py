"""What an operator does: quarantine, reconcile, retention, export, position."""
