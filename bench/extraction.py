"""How often the offline extractor is right: its statements beside judgements made by hand.

    python -m bench.extraction [--set 2] [--all]

Reads the turns of `bench/extraction/turns_N.json`, session by session as the learning policy would,
and looks each statement up in `judged_N.json`: right (a reader of the turn would sign it as it is
flagged), vague (true, but incomplete or of no use by itself), wrong. Statements that nobody has
judged are listed, so a change of the rules shows what it changes.
"""

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from language.extraction import Passage, SpacyExtractor
from language.statements import ExtractedStatement
from projections.learning import names_of

FOLDER = Path(__file__).parent / "extraction"
VERDICTS = ("right", "vague", "wrong")


@dataclass(frozen=True)
class Found:
    """One statement, and where it was found."""

    session: str
    text: str
    line: str


def read_sessions(number: int) -> list[Found]:
    """What the extractor finds in all turns of one set."""
    extractor = SpacyExtractor()
    found: list[Found] = []
    for session in _load(f"turns_{number}.json"):
        names: list[str] = []  # last mentioned first, as the policy hands them over
        for turn in session["turns"]:
            passage = Passage(turn["text"], turn["speaker"], turn["to"])
            statements = extractor.extract(
                passage.text,
                speaker=passage.speaker,
                addressee=passage.addressee,
                known_names=names,
            )
            found += [Found(session["session"], passage.text, line_of(one)) for one in statements]
            names = list(dict.fromkeys([*names_of(statements), *names]))
    return found


def line_of(one: ExtractedStatement) -> str:
    """A statement as it is judged, with everything that may be wrong about it."""
    flags: list[str] = [one.modality] if one.modality != "fact" else []
    flags += ["not"] if one.polarity == "no" else []
    flags += [f"says {one.said_by}"] if one.said_by else []
    flags += [f"from {one.valid_from}"] if one.valid_from else []
    flags += [f"to {one.valid_to}"] if one.valid_to else []
    flags += ["literal"] if one.object_is_literal else []
    line = f"{one.subject} | {one.predicate} | {one.object}"
    return f"{line} ({', '.join(flags)})" if flags else line


def read_verdicts(number: int) -> dict[tuple[str, str], str]:
    """What was judged of one set: right, vague or wrong, by text and statement."""
    path = FOLDER / f"judged_{number}.json"
    judged = _load(path.name) if path.exists() else []
    return {(one["text"], one["statement"]): one["verdict"] for one in judged}


def main() -> None:
    """Print the precision, and what is not judged."""
    parser = argparse.ArgumentParser(prog="python -m bench.extraction")
    parser.add_argument("--set", type=int, default=len(list(FOLDER.glob("turns_*.json"))))
    parser.add_argument("--all", action="store_true", help="list what is not right, too")
    options = parser.parse_args()
    found = read_sessions(options.set)
    judged = read_verdicts(options.set)
    verdicts = Counter(judged.get((one.text, one.line)) for one in found)
    total = sum(verdicts[each] for each in VERDICTS)
    for one in found:
        verdict = judged.get((one.text, one.line))
        if verdict is None or (options.all and verdict != "right"):
            print(json.dumps({**asdict(one), "verdict": verdict}, ensure_ascii=False))
    turns = sum(len(session["turns"]) for session in _load(f"turns_{options.set}.json"))
    print(f"set {options.set}: {turns} turns, {len(found)} statements, {total} of them judged")
    for verdict in VERDICTS:
        share = verdicts[verdict] / total if total else 0.0
        print(f"{verdict:6} {verdicts[verdict]:4}  {share:.0%}")


def _load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
