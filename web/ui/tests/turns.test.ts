import { describe, expect, test } from "vitest";
import type { ServerMessage, StoredEvent } from "../src/protocol";
import {
  conversation,
  entryText,
  factOfEvent,
  factOfMessage,
  foldTurn,
  type Turn,
  type TurnFact,
} from "../src/turns";

const CAUSE = { user_id: "ada", connection_id: "c1", request_id: null };
const AT = "2026-01-31T12:00:00.000Z";

function event(position: number, type: string, data: Record<string, unknown>): StoredEvent {
  return { position, type, stream: "s", timestamp: AT, cause: CAUSE, data };
}

const EVENTS = [
  event(1, "QueryAsked", { turn_id: "t1", message: "Who?" }),
  event(2, "ReplyStarted", { turn_id: "t1" }),
  event(3, "QueryAsked", { turn_id: "t2", message: "Where?" }),
  event(4, "ReplyCompleted", {
    turn_id: "t1",
    text: "Kira.",
    recalled: ["s-0"],
    facts: ["f1"],
    model: "m",
    usage: null,
    duration_ms: 12,
  }),
  event(5, "ReplyFailed", { turn_id: "t2", code: "unavailable", error: "Gone.", text: "In" }),
];

function folded(facts: TurnFact[]): Map<string, Turn> {
  const turns = new Map<string, Turn>();
  for (const fact of facts) turns.set(fact.turnId, foldTurn(turns.get(fact.turnId), fact));
  return turns;
}

const facts = (events: StoredEvent[]): TurnFact[] => events.map((one) => factOfEvent(one)!);

describe("a conversation", () => {
  test("is the same in whatever order its events are read, and however often", () => {
    const forwards = conversation(folded(facts(EVENTS)).values(), null);
    const backwards = conversation(folded(facts([...EVENTS].reverse())).values(), null);
    const twice = conversation(folded(facts([...EVENTS, ...EVENTS])).values(), null);

    expect(backwards).toEqual(forwards);
    expect(twice).toEqual(forwards);
    expect(forwards.map((turn) => [turn.asked?.message, turn.ended?.how])).toEqual([
      ["Who?", "completed"],
      ["Where?", "failed"],
    ]);
  });

  test("as of a position has what had happened by then", () => {
    const turns = folded(facts(EVENTS)).values();

    const then = conversation([...turns], 3);

    expect(then.map((turn) => [turn.asked?.message, turn.ended])).toEqual([
      ["Who?", null],
      ["Where?", null],
    ]);
  });

  test("leaves out a turn whose beginning has not been read", () => {
    expect(conversation(folded(facts(EVENTS.slice(3))).values(), null)).toEqual([]);
  });

  test("knows more of a reply from its event than from its message", () => {
    const message = {
      type: "query_response",
      position: 4,
      data: {
        timestamp: AT,
        turn_id: "t1",
        message: "Kira.",
        partial: false,
        recalled: ["s-0"],
        facts: ["f1"],
      },
    } as ServerMessage;
    const told = factOfMessage(message)!;

    const turn = folded([told, ...facts(EVENTS)]).get("t1");
    const alone = folded([told]).get("t1");

    expect(alone?.ended).toMatchObject({ facts: ["f1"], duration_ms: null });
    expect(turn?.ended).toMatchObject({ facts: ["f1"], duration_ms: 12, recalled: ["s-0"] });
  });
});

describe("a reply that is being written", () => {
  const piece = (last: number, text: string, first = last): TurnFact => {
    return { kind: "piece", turnId: "t", first, last, text };
  };

  test("grows with each piece, once", () => {
    const turn = folded([piece(1, "On"), piece(2, "ce"), piece(2, "ce"), piece(1, "On")]).get("t");

    expect(turn?.streamed).toBe("Once");
  });

  test("says where pieces are missing", () => {
    expect(folded([piece(4, "upon")]).get("t")?.streamed).toBe("… upon");
    expect(folded([piece(1, "Once"), piece(3, "a")]).get("t")?.streamed).toBe("Once … a");
  });

  test("takes several pieces as one, and the text so far in place of what it has", () => {
    const lagged = folded([piece(1, "On"), piece(4, "ce upon a", 2), piece(5, " time")]).get("t");
    const back = folded([piece(1, "On"), piece(3, "Once upon", 1), piece(4, " a")]).get("t");
    const behind = folded([piece(3, "Once upon", 1), piece(2, "Once", 1)]).get("t");

    expect(lagged?.streamed).toBe("Once upon a time");
    expect(back?.streamed).toBe("Once upon a");
    expect(behind?.streamed).toBe("Once upon");
  });

  test("takes no more pieces when it has ended", () => {
    const turn = folded([...facts(EVENTS), { ...piece(1, "late"), turnId: "t1" }]).get("t1");

    expect(turn?.streamed).toBe("");
  });
});

test("a memory entry is found in the turn or the seed that it comes from", () => {
  const turns = folded(facts(EVENTS));

  expect(entryText("q-t1", turns, [])?.text).toBe("Who?");
  expect(entryText("r-t1", turns, [])?.text).toBe("Kira.");
  expect(entryText("s-0", turns, ["The river."])).toMatchObject({ text: "The river.", turn_id: null });
  expect(entryText("q-t9", turns, [])).toBeNull();
});
