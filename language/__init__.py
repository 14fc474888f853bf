"""What speaks: the chat model, embedding, extraction, prompts, domain configurations."""
