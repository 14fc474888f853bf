/** What the monitor socket tells, kept for the charts. */

import { batch, signal } from "@preact/signals";
import type { MonitorMessage, MonitorUpdate } from "./protocol";
import { ReconnectingSocket, socketUrl } from "./socket";

const WINDOW_MS = 5 * 60_000; // what the charts show

export interface Sample extends MonitorUpdate {
  at: number; // milliseconds since the epoch, by this browser's clock
}

export interface Happening {
  key: number;
  at: string;
  text: string;
  sessionId: string;
}

const HAPPENINGS = 50;

const SAID = {
  session_created: "A session was opened",
  session_deleted: "A session was deleted",
  connection_opened: "Somebody connected",
  connection_closed: "A connection ended",
} as const;

export class MonitorFeed {
  readonly samples = signal<readonly Sample[]>([]);
  readonly happenings = signal<readonly Happening[]>([]);
  readonly #socket: ReconnectingSocket;
  #count = 0;

  constructor() {
    this.#socket = new ReconnectingSocket({
      url: () => socketUrl("/api/v1/ws/monitor", {}),
      onMessage: (message) => this.#receive(message as MonitorMessage),
      lifeSign: { type: "ping", data: {} },
    });
  }

  get link() {
    return this.#socket.link;
  }

  close(): void {
    this.#socket.close();
  }

  #receive(message: MonitorMessage): void {
    batch(() => {
      if (message.type === "monitor_update") {
        const now = Date.now();
        const kept = this.samples.value.filter((sample) => sample.at > now - WINDOW_MS);
        this.samples.value = [...kept, { ...message.data, at: now }];
      } else if (message.type in SAID) {
        this.#happened(message as Extract<MonitorMessage, { type: keyof typeof SAID }>);
      }
    });
  }

  #happened({ type, data }: Extract<MonitorMessage, { type: keyof typeof SAID }>): void {
    this.#count += 1;
    const who = data.user_id ? ` (${data.user_id})` : data.code ? ` (code ${data.code})` : "";
    const happening = {
      key: this.#count,
      at: data.timestamp,
      text: SAID[type] + who,
      sessionId: data.session_id,
    };
    this.happenings.value = [happening, ...this.happenings.value].slice(0, HAPPENINGS);
  }
}
