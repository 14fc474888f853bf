import { expect, test } from "vitest";
import { History } from "../src/history";
import { momentAt, type Moment } from "../src/moments";
import type { StoredEvent } from "../src/protocol";

/** A log of which a session has some positions, and a history that reads it. */
function logOf(positions: number[]) {
  const taken: number[] = [];
  let reads = 0;
  const read = (_id: string, after: number, limit: number) => {
    reads += 1;
    const found = positions.filter((position) => position > after);
    const events = found.slice(0, limit).map((position) => ({ position }) as StoredEvent);
    return Promise.resolve({ events, has_more: found.length > limit });
  };
  const head = positions.at(-1) ?? 0;
  const history = new History("s", head, (events) => {
    taken.push(...events.map((event) => event.position));
  }, read);
  return { history, taken, positions, reads: () => reads };
}

test("every event is read, though the session is thin in a long log", async () => {
  const log = logOf([7, 90_000, 90_001, 400_000, 1_000_000]);

  await log.history.opening();
  await log.history.everything();

  expect([...new Set(log.taken)].sort((a, b) => a - b)).toEqual(log.positions);
  expect(log.history.isWhole).toBe(true);
  expect(log.reads()).toBeLessThan(15);
});

test("the newest events come first", async () => {
  const log = logOf(Array.from({ length: 9_000 }, (_, index) => index + 1));

  await log.history.opening();
  await log.history.earlier();

  expect(log.taken).toContain(9_000);
  expect(log.taken).not.toContain(6_000);
  expect(log.history.isWhole).toBe(false);
});

test("what is stored later is read once", async () => {
  const log = logOf([5, 6]);
  await log.history.opening();
  await log.history.everything();
  log.positions.push(8, 9);
  log.taken.length = 0;

  await Promise.all([log.history.later(), log.history.later()]);

  expect(log.taken).toEqual([8, 9]);
});

test("a session without events ends at once", async () => {
  const log = logOf([]);

  await log.history.opening();

  expect(await log.history.earlier()).toBe(false);
});

test("the moment of a position is the newest one by then", () => {
  const moments = [3, 5, 9].map((position) => ({ position }) as Moment);

  expect([2, 3, 4, 9, 99].map((position) => momentAt(moments, position))).toEqual([-1, 0, 0, 2, 2]);
});
