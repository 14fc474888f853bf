/** Going from one thing to another: to a message, to a node or an edge of the graph. */

import { signal } from "@preact/signals";
import type { Session } from "./session";
import { panel } from "./settings";

export type GraphPlace = { node: string } | { edge: string };

/** Which turn the conversation shall show; a new object each time asks again. */
export const jump = signal<{ key: string } | null>(null);
export const marked = signal<string | null>(null);
export const graphPlace = signal<GraphPlace | null>(null);
/** Where there is room for one thing only: conversation or panel. */
export const narrowTab = signal<"talk" | "panel">("talk");

export async function jumpTo(session: Session, turnId: string): Promise<void> {
  while (!session.turns.value.get(turnId)?.asked && (await session.readEarlier()));
  const asked = session.turns.value.get(turnId)?.asked;
  if (!asked) return;
  if (session.asOf.value !== null && asked.position > session.asOf.value) session.asOf.value = null;
  narrowTab.value = "talk";
  marked.value = turnId;
  jump.value = { key: turnId };
  requestAnimationFrame(() => {
    window.setTimeout(() => {
      document.getElementById(`turn-${turnId}`)?.focus({ preventScroll: true });
    }, 120);
  });
}

export function focusOn(place: GraphPlace): void {
  panel.value = "graph";
  narrowTab.value = "panel";
  graphPlace.value = place;
}
