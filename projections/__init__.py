"""What is derived from the log: memory, graph, sessions, what is learned; and how they follow."""
