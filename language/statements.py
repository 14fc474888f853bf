"""A statement as an extractor finds it."""

from dataclasses import dataclass
from typing import Literal

Polarity = Literal["yes", "no"]
Modality = Literal["fact", "plan", "wish", "possible", "reported"]


@dataclass(frozen=True)
class ExtractedStatement:
    """One thing that a text says, and how it is meant."""

    subject: str
    subject_type: str | None  # a hint, as the parser sees it; wrong for a third of invented names
    predicate: str
    object: str
    object_type: str | None
    object_is_literal: bool  # a number, a quantity, a property: no entity of its own
    quote: str  # the sentence, exactly as it stands in the text
    polarity: Polarity
    modality: Modality
    said_by: str | None  # whose words are reported
    valid_from: str | None  # when it holds, in the text's own words
    valid_to: str | None
    confidence: float  # 0.9: a named subject; 0.7: "he" or "she" resolved; 0.5: anything else
    replaces: str | None = None  # what it says was so before
