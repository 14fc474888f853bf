/** A WebSocket that comes back: backoff with jitter, a visible state, and a look for life. */

import { signal, type ReadonlySignal } from "@preact/signals";
import { FINAL_CODES } from "./protocol";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 15_000;
const PATIENCE_MS = 10_000; // for an answer to a sign of life, and for the handshake

export type Link =
  | { state: "connecting" } // for the first time
  | { state: "open" }
  | { state: "waiting"; attempt: number; retryAt: number } // lost; comes back by itself
  | { state: "closed"; code: number; reason: string }; // for good

export interface SocketOptions {
  /** Where to connect, asked anew each time: it carries from where to resume. */
  url: () => string;
  onMessage: (message: unknown) => void;
  /** Called when a connection that was open is gone: answers that were due on it won't come. */
  onLost?: () => void;
  /** What shows that the server lives; its answer may be anything. */
  lifeSign: object;
  lifeSignInterval_s?: number;
}

export class ReconnectingSocket {
  readonly #link = signal<Link>({ state: "connecting" });
  readonly #options: SocketOptions;
  #socket: WebSocket | null = null;
  #attempt = 0;
  #heardAt = 0;
  #retryTimer: number | undefined;
  #lifeTimer: number | undefined;
  #deadline: number | undefined;

  constructor(options: SocketOptions) {
    this.#options = options;
    addEventListener("online", this.#comeBackNow);
    addEventListener("offline", this.#lookForLife);
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#connect();
  }

  get link(): ReadonlySignal<Link> {
    return this.#link;
  }

  /** Send one message; false where there is no open connection: nothing is kept for later. */
  send(message: object): boolean {
    if (this.#link.value.state !== "open" || this.#socket?.readyState !== WebSocket.OPEN) {
      return false;
    }
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Try at once, without waiting for the timer. */
  retry(): void {
    if (this.#link.value.state === "waiting") this.#connect();
  }

  close(): void {
    removeEventListener("online", this.#comeBackNow);
    removeEventListener("offline", this.#lookForLife);
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.#stopTimers();
    this.#drop();
    this.#link.value = { state: "closed", code: 1000, reason: "" };
  }

  #connect(): void {
    this.#stopTimers();
    this.#drop();
    const socket = new WebSocket(this.#options.url());
    this.#socket = socket;
    this.#deadline = window.setTimeout(() => this.#lose(), PATIENCE_MS);
    socket.onmessage = (event: MessageEvent<string>) => {
      this.#heardAt = Date.now();
      window.clearTimeout(this.#deadline);
      if (this.#link.value.state !== "open") this.#isOpen();
      this.#options.onMessage(JSON.parse(event.data));
    };
    socket.onclose = (event) => {
      const reason = FINAL_CODES[event.code];
      if (reason === undefined) {
        this.#lose();
        return;
      }
      this.#stopTimers();
      const wasOpen = this.#link.value.state === "open";
      this.#link.value = { state: "closed", code: event.code, reason };
      if (wasOpen) this.#options.onLost?.();
    };
  }

  #isOpen(): void {
    this.#attempt = 0;
    this.#link.value = { state: "open" };
    const interval_ms = (this.#options.lifeSignInterval_s ?? 25) * 1000;
    this.#lifeTimer = window.setInterval(this.#lookForLife, interval_ms);
  }

  /** The connection is gone, or never came: come back after a wait that grows. */
  #lose(): void {
    this.#stopTimers();
    this.#drop();
    const wasOpen = this.#link.value.state === "open";
    this.#attempt += 1;
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#attempt);
    // Full jitter: the clients of a server that restarts don't come back all at once.
    const wait_ms = FIRST_WAIT_MS + Math.random() * (longest - FIRST_WAIT_MS);
    this.#link.value = {
      state: "waiting",
      attempt: this.#attempt,
      retryAt: Date.now() + wait_ms,
    };
    this.#retryTimer = window.setTimeout(() => this.#connect(), wait_ms);
    if (wasOpen) this.#options.onLost?.();
  }

  /** Ask for a sign of life; a connection on which none comes is dead, whatever TCP thinks. */
  #lookForLife = (): void => {
    if (this.#link.value.state !== "open") return;
    const asked = Date.now();
    this.send(this.#options.lifeSign);
    window.clearTimeout(this.#deadline);
    this.#deadline = window.setTimeout(() => {
      if (this.#heardAt < asked) this.#lose();
    }, PATIENCE_MS);
  };

  #comeBackNow = (): void => {
    this.retry();
  };

  #onVisible = (): void => {
    if (document.visibilityState !== "visible") return;
    this.retry();
    this.#lookForLife(); // the machine may have slept
  };

  #drop(): void {
    if (this.#socket === null) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #stopTimers(): void {
    window.clearTimeout(this.#retryTimer);
    window.clearTimeout(this.#deadline);
    window.clearInterval(this.#lifeTimer);
  }
}

/** The address of a WebSocket of this server. */
export function socketUrl(path: string, parameters: Record<string, string>): string {
  const query = new URLSearchParams(parameters).toString();
  return `${location.origin.replace(/^http/, "ws")}${path}${query && `?${query}`}`;
}
