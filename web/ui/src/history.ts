/** The stored events of a session, read newest first in stretches that grow, and onwards. */

import { readEvents } from "./api";
import type { StoredEvent } from "./protocol";

const PAGE = 500;
const FIRST_SPAN = 2_000; // positions; the log is shared with other sessions
const WIDEN = 4; // a stretch in which this session did little is followed by a longer one
const FEW = 200;

type Read = (id: string, after: number, limit: number) => ReturnType<typeof readEvents>;

export class History {
  #low: number; // everything after this position, up to #high, has been read
  #high: number;
  #span = FIRST_SPAN;
  #start: number | null = null; // the position of the session's first event
  #queue: Promise<unknown> = Promise.resolve();

  /** `head`: the newest position there is; `take` gets events in any order, some twice. */
  constructor(
    private readonly id: string,
    head: number,
    private readonly take: (events: StoredEvent[]) => void,
    private readonly read: Read = readEvents,
  ) {
    this.#low = this.#high = head;
  }

  get isWhole(): boolean {
    return this.#start !== null && this.#low < this.#start;
  }

  /** Read the very first event: what the session was opened with. */
  opening(): Promise<void> {
    return this.#inTurn(async () => {
      const { events } = await this.read(this.id, 0, 1);
      this.#start = events[0]?.position ?? 0;
      this.take(events);
    });
  }

  /** Read one stretch further back; false where there is none. */
  earlier(): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.isWhole || this.#low <= 0) return false;
      const from = Math.max(0, (this.#start ?? 1) - 1, this.#low - this.#span);
      const count = await this.#stretch(from, this.#low);
      this.#low = from;
      if (count < FEW) this.#span *= WIDEN;
      return true;
    });
  }

  async everything(): Promise<void> {
    while (await this.earlier());
  }

  /** Read what has been stored since. */
  later(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#stretch(this.#high, Infinity);
    });
  }

  async #stretch(after: number, upto: number): Promise<number> {
    let count = 0;
    let hasMore = true;
    while (hasMore && after < upto) {
      const page = await this.read(this.id, after, PAGE);
      const events = page.events.filter((event) => event.position <= upto);
      this.take(events);
      count += events.length;
      const last = page.events.at(-1);
      hasMore = page.has_more && last !== undefined;
      if (last) {
        after = last.position;
        if (upto === Infinity) this.#high = Math.max(this.#high, last.position);
      }
    }
    return count;
  }

  /** One read at a time: two stretches at once would both move the same ends. */
  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => undefined);
    return result;
  }
}
