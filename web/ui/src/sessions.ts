/** The list of sessions, read when it may have changed. */

import { effect, signal } from "@preact/signals";
import { listSessions } from "./api";
import type { SessionSummary } from "./protocol";

const STEP = 50;

export const sessionQuery = signal("");
export const sessionList = signal<readonly SessionSummary[] | null>(null); // null: not read yet
export const sessionTotal = signal(0);
export const sessionError = signal<string | null>(null);

const limit = signal(STEP);
const asked = signal(0);

export function refreshSessions(): void {
  asked.value = asked.peek() + 1; // no subscription: effects may call this
}

export function showMoreSessions(): void {
  limit.value += STEP;
}

export function startSessionList(): void {
  let reading: AbortController | undefined;
  effect(() => {
    void asked.value;
    const query = sessionQuery.value.trim();
    const count = limit.value;
    reading?.abort();
    reading = new AbortController();
    listSessions(query, count, reading.signal).then(
      ({ sessions, total }) => {
        sessionList.value = sessions;
        sessionTotal.value = total;
        sessionError.value = null;
      },
      (error: Error) => {
        if (error.name !== "AbortError") sessionError.value = error.message;
      },
    );
  });
  addEventListener("focus", refreshSessions);
}
