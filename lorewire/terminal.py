"""What may be written to a terminal."""


def printable(text: str) -> str:
    """A text without what moves the cursor or changes colours: people and models wrote it."""
    return "".join(one for one in text if one.isprintable() or one in "\n\t")
