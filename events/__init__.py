"""What happened: aggregates and domain events, the log, the journal, the audit view."""
