"""What Lorewire is compared with: small servers that do the same work another way."""
