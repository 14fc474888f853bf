/**
 * The conversation, folded from what happened.
 *
 * A turn is made of facts that each come from one event: asked, then completed, failed or
 * cancelled. Messages of the socket and stored events tell the same facts, so both are turned into
 * facts and folded by one function. The order in which they are folded does not matter, which is
 * why a page may read history backwards while new events arrive.
 */

import type { Entry, ServerMessage, StoredEvent, Usage } from "./protocol";

export interface Asked {
  position: number;
  at: string;
  message: string;
  userId: string;
}

export interface Ended {
  position: number;
  at: string;
  how: "completed" | "failed" | "cancelled";
  text: string;
  recalled: string[];
  facts: string[];
  graphPosition: number | null; // where the graph was looked at; null: not known
  model: string | null;
  usage: Usage | null;
  duration_ms: number | null;
  code: string | null;
  error: string | null;
}

export interface Turn {
  id: string;
  asked: Asked | null; // null: happened before what has been read
  startedAt: number | null; // position of its ReplyStarted
  ended: Ended | null;
  streamed: string; // what has come of a reply that runs
  lastSequence: number;
}

export type TurnFact =
  | { kind: "asked"; turnId: string; asked: Asked }
  | { kind: "started"; turnId: string; position: number }
  | { kind: "piece"; turnId: string; text: string; first: number; last: number }
  | { kind: "ended"; turnId: string; ended: Ended };

/** The turn with one more fact; the same object where it adds nothing. */
export function foldTurn(turn: Turn | undefined, fact: TurnFact): Turn {
  const known = turn ?? newTurn(fact.turnId);
  switch (fact.kind) {
    case "asked":
      return { ...known, asked: merged(known.asked, fact.asked) };
    case "started":
      return { ...known, startedAt: fact.position };
    case "piece": {
      if (known.ended || fact.last <= known.lastSequence) return known;
      if (fact.first === 1) return { ...known, streamed: fact.text, lastSequence: fact.last };
      // Pieces that were missed: the whole reply, which comes at the end, has them.
      const gap = fact.first === known.lastSequence + 1 ? "" : known.streamed ? " … " : "… ";
      return { ...known, streamed: known.streamed + gap + fact.text, lastSequence: fact.last };
    }
    case "ended":
      return { ...known, ended: merged(known.ended, fact.ended) };
  }
}

export function factOfEvent(event: StoredEvent): TurnFact | null {
  const { data, position } = event;
  const turnId = data["turn_id"] as string;
  const at = event.timestamp;
  switch (event.type) {
    case "QueryAsked":
      return {
        kind: "asked",
        turnId,
        asked: {
          position,
          at,
          message: data["message"] as string,
          userId: event.cause.user_id,
        },
      };
    case "ReplyStarted":
      return { kind: "started", turnId, position };
    case "ReplyCompleted":
      return {
        kind: "ended",
        turnId,
        ended: {
          ...noDetails,
          position,
          at,
          how: "completed",
          text: data["text"] as string,
          recalled: data["recalled"] as string[],
          facts: data["facts"] as string[],
          graphPosition: (data["graph_position"] as number | null | undefined) ?? null,
          model: data["model"] as string,
          usage: (data["usage"] as Usage | null) ?? null,
          duration_ms: (data["duration_ms"] as number | null) ?? null,
        },
      };
    case "ReplyFailed":
    case "ReplyCancelled":
      return {
        kind: "ended",
        turnId,
        ended: {
          ...noDetails,
          position,
          at,
          how: event.type === "ReplyFailed" ? "failed" : "cancelled",
          text: (data["text"] as string | undefined) ?? "",
          code: (data["code"] as string | undefined) ?? null,
          error: (data["error"] as string | undefined) ?? null,
        },
      };
    default:
      return null;
  }
}

export function factOfMessage(message: ServerMessage): TurnFact | null {
  if (message.type === "query_received") {
    const { data } = message;
    return {
      kind: "asked",
      turnId: data.turn_id,
      asked: {
        position: message.position ?? 0,
        at: data.timestamp,
        message: data.message,
        userId: data.user_id,
      },
    };
  }
  if (message.type !== "query_response") return null;
  const { data } = message;
  if (data.partial) {
    return {
      kind: "piece",
      turnId: data.turn_id,
      text: data.message,
      first: data.first_sequence ?? data.sequence ?? 0,
      last: data.sequence ?? 0,
    };
  }
  return {
    kind: "ended",
    turnId: data.turn_id,
    ended: {
      position: message.position ?? 0,
      at: data.timestamp,
      how: data.failed ? "failed" : data.cancelled ? "cancelled" : "completed",
      text: data.message,
      recalled: data.recalled ?? [],
      facts: data.facts ?? [],
      graphPosition: data.graph_position ?? null,
      model: data.model ?? null,
      usage: data.usage ?? null,
      duration_ms: null,
      code: data.code ?? null,
      error: data.error ?? null,
    },
  };
}

/** The turns in the order in which they were asked, as of a position (null: all). */
export function conversation(turns: Iterable<Turn>, asOf: number | null): Turn[] {
  const limit = asOf ?? Infinity;
  return [...turns]
    .filter((turn) => turn.asked !== null && turn.asked.position <= limit)
    .map((turn) => (asOf === null ? turn : asOfPosition(turn, limit)))
    .sort((one, other) => one.asked!.position - other.asked!.position);
}

/** What a memory entry says, from the turns that are known; null where its turn is not. */
export function entryText(
  entryId: string,
  turns: ReadonlyMap<string, Turn>,
  seed: readonly string[],
): Pick<Entry, "text" | "role" | "turn_id"> | null {
  const kind = entryId.slice(0, 2);
  const rest = entryId.slice(2);
  if (kind === "s-") {
    const text = seed[Number(rest)];
    return text === undefined ? null : { text, role: "seed", turn_id: null };
  }
  const turn = turns.get(rest);
  if (kind === "q-" && turn?.asked) {
    return { text: turn.asked.message, role: "user", turn_id: rest };
  }
  if (kind === "r-" && turn?.ended) {
    return { text: turn.ended.text, role: "agent", turn_id: rest };
  }
  return null;
}

const noDetails = {
  recalled: [] as string[],
  facts: [] as string[],
  graphPosition: null,
  model: null,
  usage: null,
  duration_ms: null,
  code: null,
  error: null,
};

function newTurn(id: string): Turn {
  return { id, asked: null, startedAt: null, ended: null, streamed: "", lastSequence: 0 };
}

/** One fact told twice: what either telling knows. */
function merged<Told extends object>(known: Told | null, told: Told): Told {
  if (known === null) return told;
  const news = Object.entries(told).filter(([, value]) => value !== null);
  return { ...known, ...Object.fromEntries(news) };
}

function asOfPosition(turn: Turn, limit: number): Turn {
  if (turn.ended !== null && turn.ended.position <= limit) return turn;
  return { ...turn, ended: null, streamed: "" };
}
