/** The moments of a session between which the time slider moves. */

import type { StoredEvent } from "./protocol";

export type MomentKind = "opened" | "asked" | "replied" | "stopped" | "learned" | "corrected";

export interface Moment {
  position: number;
  at: string;
  kind: MomentKind;
  label: string;
}

/** What an event means on the slider; null for those that change nothing that the page shows. */
export function momentOf(event: StoredEvent): Moment | null {
  const told = tell(event);
  if (told === null) return null;
  return { position: event.position, at: event.timestamp, kind: told[0], label: told[1] };
}

function tell({ type, data, cause }: StoredEvent): [MomentKind, string] | null {
  switch (type) {
    case "SessionOpened":
      return ["opened", "The session was opened"];
    case "QueryAsked":
      return ["asked", `${cause.user_id}: ${short(data["message"])}`];
    case "ReplyCompleted":
      return ["replied", `Reply: ${short(data["text"])}`];
    case "ReplyFailed":
      return ["stopped", "The reply failed"];
    case "ReplyCancelled":
      return ["stopped", "The reply was stopped"];
    case "KnowledgeExtracted": {
      const count = ((data["statements"] as unknown[] | undefined) ?? []).length;
      return count === 0 ? null : ["learned", `Learned ${count} statement${count > 1 ? "s" : ""}`];
    }
    case "StatementRetracted":
      return ["corrected", "A statement was taken back"];
    case "EntitiesMerged":
      return ["corrected", `${data["merged_name"]} became ${data["kept_name"]}`];
    case "EntitiesSplit":
      return ["corrected", "A merge was taken back"];
    default:
      return null;
  }
}

function short(text: unknown): string {
  const line = String(text).replace(/[*`]/g, "").replace(/\s+/g, " ").trim();
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}

/** The index of the newest moment at or before a position; -1 where none is. */
export function momentAt(moments: readonly Moment[], position: number): number {
  let low = 0;
  let high = moments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moments[middle]!.position <= position) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
