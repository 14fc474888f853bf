"""What happened: aggregates and their domain events, the log that stores them, the journal, replay."""
