"""The offline extractor, on sentences whose statements were judged by hand.

CASES were judged while the rules were written: a statement is listed only where a reader of the
sentence alone would sign it, with its polarity and its modality. They show what the rules do, not
how well they do elsewhere.

UNSEEN (25 sentences) and UNSEEN_TURNS (18 longer messages) were written before anything was seen of
what the rules make of them, and read once. Each statement of that first reading is right or wrong,
strictly: vague, incomplete or wrongly flagged is wrong. Right were 26 of 27 (96 %) and 27 of 32
(84 %). One person wrote rules, sentences and verdicts, so count on less in other people's words.
"""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from language.domains import load_domains
from language.extraction import (
    MAX_STATEMENTS,
    Extractor,
    ExtractorMissingError,
    SpacyExtractor,
    load_extractor,
)
from language.plain_text import blank_markup, paragraphs
from language.statements import ExtractedStatement

# "subject | predicate | object", and polarity and modality where they are not "yes fact".
CASES: dict[str, list[str]] = {
    "Kira, the ranger, distrusts Corvin Blackwood.": [
        "Kira | is_a | ranger",
        "Kira | distrusts | Corvin Blackwood",
    ],
    "Kira the ranger distrusts Corvin Blackwood.": [
        "Kira | is_a | ranger",
        "Kira | distrusts | Corvin Blackwood",
    ],
    "Kira's brother Tobin lives in Rivermoor.": [
        "Tobin | brother_of | Kira",
        "Tobin | lives_in | Rivermoor",
    ],
    "My sister works at the Iron Lantern.": ["Ada's sister | works_at | Iron Lantern"],
    "Garrick and Sara Holt guard the bridge and the mill.": [
        "Garrick | guards | bridge",
        "Garrick | guards | mill",
        "Sara Holt | guards | bridge",
        "Sara Holt | guards | mill",
    ],
    "The amulet was stolen by Corvin Blackwood from the temple.": [
        "Corvin Blackwood | steals | amulet",
        "amulet | stolen_from | temple",
    ],
    "Corvin no longer leads the Grey Hand.": ["Corvin | leads | Grey Hand | no fact"],
    "There is no dragon in the cave.": ["dragon | located_in | cave | no fact"],
    "No guard saw Corvin.": ["guard | sees | Corvin | no fact"],
    "Neither Kira nor Tobin knows the password.": [
        "Kira | knows | password | no fact",
        "Tobin | knows | password | no fact",
    ],
    "Does Kira trust Tobin?": [],
    '"The gate is cursed," says Tobin.': ["gate | is | cursed | yes reported"],
    "Tobin says that Corvin stole the amulet.": ["Corvin | steals | amulet | yes reported"],
    "According to Mira, the film contains lead.": ["film | contains | lead | yes reported"],
    "I think the mayor is a vampire.": ["mayor | is_a | vampire | yes possible"],
    "I don't think the mayor is a vampire.": [],
    "Kira wants to find the amulet.": ["Kira | finds | amulet | yes wish"],
    "I would like to visit the tower.": ["Ada | visits | tower | yes wish"],
    "We will attack the fortress at dawn.": ["Ada (group) | attacks | fortress | yes plan"],
    "Kira might join the Grey Hand.": ["Kira | joins | Grey Hand | yes possible"],
    "If Kira finds the amulet, Corvin will attack Rivermoor.": [
        "Corvin | attacks | Rivermoor | yes possible"
    ],
    "Tobin Ashford met Kira. He gave her the hammer.": [
        "Tobin Ashford | meets | Kira",
        "Tobin Ashford | gives | hammer",
    ],
    "Open the gate.": [],
    "Tobin refused to join the guild.": ["Tobin | joins | guild | no fact"],
    "Kira or Tobin stole the key.": [
        "Kira | steals | key | yes possible",
        "Tobin | steals | key | yes possible",
    ],
    "Kira is afraid of spiders.": ["Kira | is_afraid_of | spiders"],
    "The film was annealed at 100 °C for ten minutes by Jonas.": [
        "film | annealed_at | 100 °C",
        "Jonas | anneals | film",
    ],
    "Film B-15 has an efficiency of 21.3 %.": ["B-15 | has | efficiency of 21.3 %"],
    "Samples are stored in argon, not in air.": [
        "Samples | stored_in | argon",
        "Samples | stored_in | air | no fact",
    ],
    "Run 39 did not use sample B-15.": ["Run 39 | uses | B-15 | no fact"],
    "Run 40 will use sample B-16.": ["Run 40 | uses | B-16 | yes plan"],
    "The precursor solution should be kept at 4 °C.": [
        "precursor solution | kept_at | 4 °C | yes possible"
    ],
    "Dr. Okafor believes the humidity degraded the film.": [
        "humidity | degrades | film | yes possible"
    ],
    "As a reader, I want to save a wishlist so that I can buy books later.": [
        "reader | saves | wishlist | yes wish",
        "reader | buys | books | yes possible",
    ],
    "The checkout must support PayPal and invoices.": [
        "checkout | supports | PayPal | yes possible",
        "checkout | supports | invoices | yes possible",
    ],
    "SHOP-482 blocks SHOP-490.": ["SHOP-482 | blocks | SHOP-490"],
    "Readers cannot return e-books.": ["Readers | returns | e-books | no possible"],
    "Nora said the shop needs a newsletter.": ["shop | needs | newsletter | yes reported"],
    "Amir decided to use PostgreSQL instead of MongoDB.": ["Amir | uses | PostgreSQL | yes plan"],
    "Nora Lindqvist is the product owner of Shoply.": ["Nora Lindqvist | owner_of | Shoply"],
    "The payment service depends on Stripe.": ["payment service | depends_on | Stripe"],
    "Nora, who owns Shoply, asked for a report.": [
        "Nora | owns | Shoply",
        "Nora | asks_for | report",
    ],
    "You lead the guild.": ["Agent | leads | guild"],
    "It uses PostgreSQL.": [],
    "Some readers dislike the new search.": [],
    "Wei placed the wafer in the oven and started the pump.": [
        "Wei | places | wafer",
        "Wei | starts | pump",
    ],
    "Sample C-8 has no pinholes.": ["C-8 | has | pinholes | no fact"],
    "Wei is responsible for the spin coater.": ["Wei | is_responsible_for | spin coater"],
    "The mobile app is not part of the release.": ["mobile app | part_of | release | no fact"],
    "Users who forget their password get a link.": [],
    "We decided not to support Internet Explorer.": [
        "Ada (group) | supports | Internet Explorer | no plan"
    ],
}

UNSEEN: dict[str, dict[str, bool]] = {
    "The paladin Aldric swore an oath to Queen Ysolde.": {"Aldric | swears | oath": True},
    "Zephyra betrayed the Council of Ravens last winter.": {
        "Zephyra | betrays | Council of Ravens": True
    },
    "We never found the silver key in the crypt.": {
        "Ada (group) | finds | silver key | no fact": True
    },
    "Brother Osric was poisoned by the innkeeper.": {"innkeeper | poisons | Brother Osric": True},
    "Mother Agathe says that the wolves serve Lord Vane.": {
        "wolves | serves | Lord Vane | yes reported": True
    },
    "If Ulric opens the gate, the demon will escape.": {},
    "Thessaly and her sister Mirelle guard the lighthouse.": {
        "Mirelle | sister_of | Thessaly": True,
        "Thessaly | guards | lighthouse": True,
        "Mirelle | guards | lighthouse": True,
    },
    "Borin carries a warhammer and a shield of oak.": {
        "Borin | carries | warhammer": True,
        "Borin | carries | shield of oak": True,
    },
    "My character hates goblins, but she trusts Pip the tinker.": {
        "Ada's character | hats | goblins": False,
        "Pip | is_a | tinker": True,
    },
    "Batch C-209 contains 12 mg of palladium acetate.": {
        "C-209 | contains | 12 mg of palladium acetate": True
    },
    "The XRD scan of film K-7 shows no lead iodide peak.": {
        "XRD scan of film K-7 | shows | lead iodide peak | no fact": True
    },
    "Priya replaced the vacuum pump on Tuesday.": {"Priya | replaces | vacuum pump": True},
    "We are going to anneal sample D-3 at 150 °C.": {
        "Ada (group) | anneals | D-3 | yes plan": True
    },
    "The furnace was repaired by Lars in March.": {"Lars | repairs | furnace": True},
    "Tomas thinks the cells degrade in humid air.": {
        "cells | degrades_in | humid air | yes possible": True
    },
    "The new precursor might improve the fill factor.": {
        "new precursor | improves | fill factor | yes possible": True
    },
    "Run 52 used the old mask, and Run 53 used the new one.": {"Run 52 | uses | old mask": True},
    "Hannah no longer works in the clean room.": {"Hannah | works_in | clean room | no fact": True},
    "Please don't open the glovebox.": {},
    "Priority customers want to pay by invoice.": {},
    "The mobile app should send a push notification when an order ships.": {
        "mobile app | sends | push notification | yes possible": True
    },
    "Ticket PAY-17 depends on PAY-12.": {"PAY-17 | depends_on | PAY-12": True},
    "Joris, the security lead, rejected the proposal.": {
        "Joris | is_a | security lead": True,
        "Joris | rejects | proposal": True,
    },
    "The search page does not support filters yet.": {
        "search page | supports | filters | no fact": True
    },
    "I told Amina that the billing service uses Kafka instead of RabbitMQ.": {
        "billing service | uses | Kafka | yes reported": True
    },
}

UNSEEN_TURNS: dict[str, dict[str, bool]] = {
    (
        "Hey! So last session we ended up in this weird monastery, and Brother Kellan gave me a "
        "sealed letter for the Duke of Marrow, which I haven't opened yet."
    ): {
        "last session | gives | sealed letter": False,
        "Brother Kellan | gives | sealed letter": True,
    },
    (
        "As you step into the hall, the torches flicker and a hooded figure rises from the "
        'throne. "You should not have come," she whispers.'
    ): {"Agent | steps_into | hall": True, "hooded figure | rises_from | throne": True},
    (
        "Honestly my bard Lyrelle is pretty broke since the gambling night, but Dorn still owes "
        "her thirty gold pieces."
    ): {
        "Lyrelle | bard_of | Ada": True,
        "Lyrelle | is | broke": True,
        "Dorn | owes | thirty gold pieces": True,
    },
    (
        "The Duke's men are searching for the letter because it names the real heir, Princess "
        "Amara, who was raised by fishermen in Salt Bay."
    ): {
        "Duke's men | searches_for | letter": True,
        "Princess Amara | is_a | real heir": True,
        "fishermen | raises | Princess Amara": True,
    },
    (
        "Nobody in the village knows that old Hesper, the herbalist, used to be the court mage of"
        " Marrow."
    ): {"Hesper | is_a | herbalist": True, "Hesper | mage_of | Marrow | no fact": True},
    (
        "Ok quick update from the lab: the third batch came out hazy, probably because the "
        "antisolvent was too warm."
    ): {"antisolvent | is | warm": False},
    (
        "Chen swapped the PTAA for NiOx on substrates S-31 to S-36 and the average PCE went from "
        "17.2 % to 18.9 %."
    ): {
        "Chen | swaps | PTAA": False,
        "average PCE | goes_from | 17.2 %": True,
        "average PCE | goes_to | 18.9 %": True,
    },
    (
        "The UV lamp is booked by Fatima's group until Thursday, so we'll do the "
        "photoluminescence on Friday instead."
    ): {
        "Fatima's group | books | UV lamp": True,
        "Ada (group) | does | photoluminescence | yes plan": True,
    },
    (
        "In the literature, most groups report that guanidinium improves stability, although Rao "
        "et al. saw no effect."
    ): {
        "guanidinium | improves | stability | yes reported": True,
        "Rao et al | sees | effect | no fact": True,
    },
    (
        "Note that the mass flow controller on line 2 drifts; Igor recommended a recalibration "
        "every two weeks."
    ): {
        "mass flow controller | recommends | recalibration": False,
        "Igor | recommends | recalibration": True,
    },
    (
        "Our biggest client, Harbour Books, complained that the import job crashes whenever a CSV"
        " file has more than 10,000 rows."
    ): {"Harbour Books | client_of | Ada (group)": True},
    "I spoke with Lena and she'd rather have a simple list than a fancy dashboard.": {
        "Ada | speaks_with | Lena": True
    },
    (
        "The reporting module was originally written by an external agency, and nobody on our "
        "team really understands it."
    ): {"external agency | writes | reporting module": True},
    ("For now, guests can't leave reviews; only customers who have bought the book may do that."): {
        "guests | leaves | reviews | no possible": True
    },
    "Story CAT-88 was split into CAT-91 and CAT-92, both of which are assigned to Mehmet.": {
        "CAT-88 | split_into | CAT-91": True,
        "CAT-88 | split_into | CAT-92": True,
    },
    (
        "We've agreed with legal that personal data is deleted after 24 months, not after 36 as "
        "Pavel had proposed."
    ): {},
    (
        "Thanks, that's helpful! My manager Ruth also asked me to remind you that the demo takes "
        "place in Rotterdam on 3 March."
    ): {"Ruth | manager_of | Ada": True},
    (
        "The smith, a gruff dwarf named Orla, hands Tamsin the repaired blade and refuses any "
        "payment."
    ): {
        "smith | hands | Tamsin": False,
        "smith | hands | repaired blade": True,
        "smith | refuses | payment": True,
    },
}

NOTHING = [
    "There is no band.",
    "It is in the cellar.",
    "They live in Rivermoor.",
    "He left the tavern.",
    "This campaign is great.",
    "```python\nx = Kira()\n```",
    "\U0001f409\U0001f409",
    "",
    "...",
]


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    extractor = load_extractor("offline")
    assert extractor is not None
    return extractor


def extract(
    extractor: Extractor, text: str, known_names: tuple[str, ...] = ()
) -> list[ExtractedStatement]:
    return extractor.extract(
        text,
        speaker="Ada",
        addressee="Agent",
        known_names=known_names,
    )


def told(extractor: Extractor, text: str, known_names: tuple[str, ...] = ()) -> list[str]:
    """The statements of a text as the tables above write them."""
    lines = []
    for each in extract(extractor, text, known_names):
        line = f"{each.subject} | {each.predicate} | {each.object}"
        flags = f"{each.polarity} {each.modality}"
        lines.append(line if flags == "yes fact" else f"{line} | {flags}")
    return lines


@pytest.mark.parametrize("text", CASES)
def test_a_sentence_says_what_a_reader_would_sign(extractor: Extractor, text: str) -> None:
    assert told(extractor, text) == CASES[text]


@pytest.mark.parametrize("text", NOTHING)
def test_what_states_nothing_gives_nothing(extractor: Extractor, text: str) -> None:
    assert told(extractor, text) == []


@pytest.mark.parametrize(
    ("table", "right", "total"), [(UNSEEN, 26, 27), (UNSEEN_TURNS, 27, 32)], ids=["short", "turns"]
)
def test_most_of_what_was_found_unseen_is_right_and_still_found(
    extractor: Extractor, table: dict[str, dict[str, bool]], right: int, total: int
) -> None:
    verdicts = [verdict for found in table.values() for verdict in found.values()]
    kept = [
        line in told(extractor, text)
        for text, found in table.items()
        for line, verdict in found.items()
        if verdict
    ]

    assert (sum(verdicts), len(verdicts)) == (right, total)
    assert sum(kept) >= 0.9 * len(kept)


def test_reported_words_have_their_speaker(extractor: Extractor) -> None:
    text = "Tobin says that Kira stole the amulet. According to Mira, the film contains lead."

    assert [s.said_by for s in extract(extractor, text)] == ["Tobin", "Mira"]


def test_times_are_times_and_not_things(extractor: Extractor) -> None:
    [monday, until] = extract(
        extractor, "The furnace reached 900 degrees on Monday. Until 2024 Mira led the laboratory."
    )

    assert (monday.object, monday.object_is_literal) == ("900 degrees", True)
    assert (monday.valid_from, monday.valid_to) == ("Monday", None)
    assert (until.valid_from, until.valid_to) == (None, "2024")


def test_a_code_is_its_own_name_and_its_noun_is_the_type(extractor: Extractor) -> None:
    [found] = extract(extractor, "Run 37 uses sample B-14.")

    assert (found.subject, found.subject_type) == ("Run 37", "run")
    assert (found.object, found.object_type) == ("B-14", "sample")


def test_known_names_are_read_as_names(extractor: Extractor) -> None:
    text = "Karl vom Stein works at Grosh. Grosh makes armour."

    assert told(extractor, text, ("grosh", "Karl vom Stein")) == [
        "Karl vom Stein | works_at | Grosh",
        "Grosh | makes | armour",
    ]


def test_he_is_nobody_where_two_people_may_be_meant(extractor: Extractor) -> None:
    assert told(extractor, "Tobin met Garrick and he lives in Rivermoor.") == [
        "Tobin | meets | Garrick"
    ]


def test_without_an_addressee_nothing_is_said_of_you(extractor: Extractor) -> None:
    assert extractor.extract("You lead it.", speaker="Ada", addressee=None) == []


def test_confidence_tells_names_from_pronouns_and_nouns(extractor: Extractor) -> None:
    found = extract(extractor, "Kira owns a wolf. She lives in Rivermoor. The wolf has a collar.")

    assert [s.confidence for s in found] == [0.9, 0.7, 0.5]


def test_the_quote_is_the_sentence_as_it_was_said(extractor: Extractor) -> None:
    text = "# News\n\n- Mira calibrated the *diffractometer*.\n- **Sara Holt** leads the watch."

    found = extract(extractor, text)

    assert [s.quote for s in found] == [
        "Mira calibrated the *diffractometer*.",
        "**Sara Holt** leads the watch.",
    ]


def test_a_heading_is_no_part_of_the_sentence_below(extractor: Extractor) -> None:
    assert told(extractor, "## Kira\nTobin owns the forge.") == ["Tobin | owns | forge"]


def test_a_long_list_gives_its_first_statements(extractor: Extractor) -> None:
    text = " ".join(f"Run {number} uses sample B-{number}." for number in range(10, 60))

    found = told(extractor, text)

    assert len(found) == MAX_STATEMENTS
    assert found[0] == "Run 10 | uses | B-10"


def test_the_same_text_gives_the_same_statements(extractor: Extractor) -> None:
    text = " ".join(CASES)

    assert extract(extractor, text) == extract(extractor, text)


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=300)
    | st.text(st.characters(), max_size=50)
    | st.text(alphabet="Kira is a *_`-#\n>[](). if he\"'", max_size=200)
    | st.lists(st.sampled_from(" ".join(CASES).split()), max_size=60).map(" ".join)
)
def test_no_text_makes_it_fail(extractor: Extractor, text: str) -> None:
    for statement in extract(extractor, text):
        assert statement.quote in text
        assert statement.subject
        assert statement.object
        assert statement.confidence in (0.5, 0.7, 0.9)


@pytest.mark.parametrize(
    "text",
    [
        "and " * 5_000,
        "Kira " * 4_000,
        "# " * 9_000,
        "(" * 20_000,
        f"{'(' * 50} " * 100,
        "\ud800 \0",
    ],
    ids=["and", "Kira", "marks", "bracket", "brackets", "surrogate"],
)
def test_no_odd_text_makes_it_fail(extractor: Extractor, text: str) -> None:
    assert len(extract(extractor, text)) <= MAX_STATEMENTS


@pytest.mark.parametrize("name", ["dnd", "lab_assistant", "user_story"])
def test_the_seed_of_a_domain_becomes_a_graph(extractor: Extractor, name: str) -> None:
    seed = load_domains()[name].seed

    found = [statement for text in seed for statement in extract(extractor, text)]

    assert len(found) >= 1.5 * len(seed)
    assert all(s.modality == "fact" and s.polarity == "yes" for s in found)


@given(text=st.text(alphabet="ab `*_#>-\n[](1.http://", max_size=80))
def test_blanking_markup_keeps_every_place(text: str) -> None:
    plain = blank_markup(text)

    assert len(plain) == len(text)
    assert all(a in (b, " ") for a, b in zip(plain, text, strict=True))
    for start, paragraph in paragraphs(text):
        assert len(text) >= start + len(paragraph)


def test_there_may_be_no_extractor() -> None:
    assert load_extractor("none") is None
    with pytest.raises(ValueError, match="Known are offline and none"):
        load_extractor("magic")


def test_without_spacy_the_error_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)

    with pytest.raises(ExtractorMissingError, match=r"pip install .*lorewire model install"):
        SpacyExtractor()


def test_what_is_prepared_with_others_says_the_same(extractor: Extractor) -> None:
    texts = [
        "Captain Sara Holt leads the town watch. She owns the Silver Horn.",
        "",
        "Buffer B-12 contains 5 mM magnesium.\n\nIt was made on Monday by Ada.",
        "Kira lives in Rivermoor.",
    ]
    names = ("Sara Holt", "B-12")
    alone = [extract(extractor, text, known_names=names) for text in texts]

    extractor.prepare([(text, names) for text in texts])

    assert [extract(extractor, text, known_names=names) for text in texts] == alone
