"""What is live: session actors, the connections they own, the turns they run."""
