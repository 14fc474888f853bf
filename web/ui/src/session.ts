/** One session as this page knows it: what the server tells, folded into signals. */

import { batch, computed, signal } from "@preact/signals";
import { readDomain, readGraph, readSession } from "./api";
import {
  EMPTY_GRAPH,
  foldGraph,
  graphOf,
  type GraphDifference,
  type GraphState,
} from "./graph_state";
import { History } from "./history";
import { momentOf, type Moment } from "./moments";
import { Past } from "./past";
import type { MessageData, ServerMessage, SessionConfig, StoredEvent } from "./protocol";
import { ReconnectingSocket, socketUrl } from "./socket";
import {
  conversation,
  factOfEvent,
  factOfMessage,
  foldTurn,
  type Turn,
  type TurnFact,
} from "./turns";

const ENOUGH_TURNS = 40; // to fill the tallest screen before anybody scrolls
const FIRST_REREAD_MS = 1_000; // after a failed read of the state; then twice as long each time
const LONGEST_REREAD_MS = 30_000;

/** A query that this page has sent and the server has not confirmed. */
export interface Pending {
  id: string;
  message: string;
  refused: string | null; // the server's sentence
}

interface Waiting {
  resolve: (data: never) => void;
  reject: (error: Error) => void;
}

interface Difference {
  difference: GraphDifference;
  viewPosition: number;
}

export class RefusedError extends Error {}

export class Session {
  readonly title = signal<string | null>(null);
  readonly config = signal<SessionConfig | null>(null);
  readonly turns = signal<ReadonlyMap<string, Turn>>(new Map());
  readonly pending = signal<readonly Pending[]>([]);
  readonly writing = signal<string | null>(null); // the turn whose reply is being written
  readonly connections = signal(0);
  readonly present = signal<ReadonlyMap<string, string>>(new Map()); // others that joined
  readonly graph = signal<GraphState>(EMPTY_GRAPH);
  readonly isGraphRead = signal(false);
  readonly memoryChanges = signal(0); // how often memory has moved: whoever shows it reads it again
  readonly moments = signal<readonly Moment[]>([]);
  readonly seed = signal<readonly string[]>([]);
  readonly agentName = signal("agent");
  readonly isHistoryWhole = signal(false);
  readonly isLoading = signal(true);
  readonly loadProblem = signal<string | null>(null); // why the state could not be read
  readonly isDeleted = signal(false);
  readonly asOf = signal<number | null>(null); // null: now
  readonly connectionId = signal<string | null>(null);

  /** What was known at a position of this log. */
  past: Past;

  /** The turns to show: as of the moment that the slider names. */
  readonly shown = computed(() => conversation(this.turns.value.values(), this.asOf.value));

  readonly #socket: ReconnectingSocket;
  #history: History | null = null;
  #epoch: string | null = null;
  #after: number | null = null; // the newest stored message that came
  #rereadTimer: number | undefined;
  #rereads = 0;
  /** What the graph's differences were while the whole graph is being read; null: it is not. */
  #meanwhile: Difference[] | null = null;
  #requests = new Map<string, Waiting>();
  #nextId = 0;
  readonly #idPrefix = Math.random().toString(36).slice(2, 10);

  constructor(
    readonly id: string,
    readonly userId: string,
  ) {
    this.past = new Past(id);
    this.#socket = new ReconnectingSocket({
      url: () => socketUrl(`/api/v1/ws/sessions/${encodeURIComponent(id)}`, this.#parameters()),
      onMessage: (message) => this.#receive(message as ServerMessage),
      onLost: () => this.#fail("The connection was lost before the server answered."),
      lifeSign: { type: "heartbeat", data: {} },
    });
  }

  get link() {
    return this.#socket.link;
  }

  get isOnline(): boolean {
    return this.link.value.state === "open" && !this.isDeleted.value;
  }

  close(): void {
    this.#socket.close();
    this.#history = null;
    window.clearTimeout(this.#rereadTimer);
    this.#fail("The connection was closed.");
  }

  reconnectNow(): void {
    this.#socket.retry();
  }

  /** Ask the agent; false where there is no connection: then nothing was sent. */
  ask(message: string): boolean {
    const id = this.#newId();
    if (!this.isOnline || !this.#socket.send({ type: "query", id, data: { message } })) return false;
    this.pending.value = [...this.pending.value, { id, message, refused: null }];
    return true;
  }

  forget(pendingId: string): void {
    this.pending.value = this.pending.value.filter((one) => one.id !== pendingId);
  }

  cancel(turnId: string): Promise<MessageData["cancel_response"]> {
    return this.request("cancel", { turn_id: turnId });
  }

  retract(statementId: string, reason: string): Promise<unknown> {
    return this.request("retract_statement", {
      statement_id: statementId,
      ...(reason && { reason }),
    });
  }

  merge(keptId: string, mergedId: string): Promise<MessageData["merge_entities_response"]> {
    return this.request("merge_entities", { kept: keptId, merged: mergedId });
  }

  split(mergeId: string): Promise<unknown> {
    return this.request("split_entities", { merge_id: mergeId });
  }

  /** Send a request and wait for its answer; raises RefusedError with the server's sentence. */
  request<Answer>(type: string, data: object): Promise<Answer> {
    return new Promise<Answer>((resolve, reject) => {
      const id = this.#newId();
      if (!this.#socket.send({ type, id, data })) {
        reject(new RefusedError("There is no connection to the server: nothing was sent."));
        return;
      }
      this.#requests.set(id, { resolve: resolve as Waiting["resolve"], reject });
    });
  }

  /** Read further back; false where the beginning is reached. */
  async readEarlier(): Promise<boolean> {
    const more = (await this.#history?.earlier()) ?? false;
    this.isHistoryWhole.value = this.#history?.isWhole ?? false;
    return more;
  }

  /** Read all that happened, for the time slider. */
  async readEverything(): Promise<void> {
    await this.#history?.everything();
    await this.readLater();
    this.isHistoryWhole.value = this.#history?.isWhole ?? false;
  }

  /** Read the stored events of what came through the socket: they say more. */
  async readLater(): Promise<void> {
    await this.#history?.later();
  }

  #parameters(): Record<string, string> {
    const parameters: Record<string, string> = { user_id: this.userId };
    // Without a state there is nothing that could be continued.
    if (this.#history !== null && this.#epoch !== null && this.#after !== null) {
      parameters["epoch"] = this.#epoch;
      parameters["after"] = String(this.#after);
      if (this.isGraphRead.value) {
        parameters["graph_after"] = String(this.graph.value.viewPosition);
      }
    }
    return parameters;
  }

  #receive(message: ServerMessage): void {
    batch(() => {
      this.#apply(message);
      // The position of `connection_established` is ahead of what is replayed after it.
      if (message.position !== undefined && message.type !== "connection_established") {
        this.#after = Math.max(this.#after ?? 0, message.position);
      }
      if (message.id !== undefined) this.#answer(message.id, message);
    });
  }

  #apply(message: ServerMessage): void {
    switch (message.type) {
      case "connection_established":
        this.#established(message.data, message.position ?? 0);
        break;
      case "query_received":
        if (message.id !== undefined) this.forget(message.id);
        break;
      case "typing_start":
        this.writing.value = message.data.turn_id;
        break;
      case "typing_stop":
        if (this.writing.value === message.data.turn_id) this.writing.value = null;
        break;
      case "query_response":
        if (message.data.partial) this.writing.value = message.data.turn_id;
        else if (this.writing.value === message.data.turn_id) this.writing.value = null;
        break;
      case "memory_updated":
        this.memoryChanges.value += 1;
        break;
      case "graph_updated":
        this.#graphUpdated(message.data, message.view_position ?? 0);
        break;
      case "connection_joined":
        this.connections.value = message.data.connections;
        this.present.value = new Map(this.present.value).set(
          message.data.connection_id,
          message.data.user_id,
        );
        break;
      case "connection_left": {
        this.connections.value = message.data.connections;
        const present = new Map(this.present.value);
        present.delete(message.data.connection_id);
        this.present.value = present;
        break;
      }
      case "session_updated":
        if ("title" in message.data.changes) this.title.value = message.data.changes.title ?? null;
        if (message.data.changes.config) this.config.value = message.data.changes.config;
        break;
      case "session_deleted":
        this.isDeleted.value = true;
        break;
      default:
        break;
    }
    const fact = factOfMessage(message);
    if (fact !== null) this.#fold([fact]);
  }

  #established(data: MessageData["connection_established"], head: number): void {
    this.connectionId.value = data.connection_id;
    this.present.value = new Map();
    this.#epoch = data.epoch;
    void this.#readStatus();
    for (const one of this.pending.value) {
      // The same id: a query that had arrived is not run twice.
      if (!one.refused) {
        this.#socket.send({ type: "query", id: one.id, data: { message: one.message } });
      }
    }
    // What was missed follows; whether a turn runs is told after it.
    if (data.recovered && this.#history !== null) return;
    void this.#readAfresh(head);
  }

  /** Read the state over HTTP: what is newer than `head` comes through the socket, too. */
  async #readAfresh(head: number): Promise<void> {
    window.clearTimeout(this.#rereadTimer);
    batch(() => {
      this.writing.value = null;
      this.turns.value = new Map();
      this.moments.value = [];
      this.graph.value = EMPTY_GRAPH;
      this.isGraphRead.value = false;
      this.asOf.value = null;
      this.isLoading.value = true;
      this.memoryChanges.value += 1;
    });
    this.#after = head;
    this.past = new Past(this.id); // positions of another log mean something else
    const history: History = new History(this.id, head, (events) => {
      if (this.#history === history) this.#takeEvents(events);
    });
    this.#history = history;
    try {
      await Promise.all([this.#readDescription(), this.#readGraph(), history.opening()]);
      // A turn that runs has its beginning in the log, whose end may have moved since.
      while (this.turns.value.size < ENOUGH_TURNS && (await this.readEarlier()));
      await this.readLater();
    } catch (error) {
      if (this.#history === history) this.#readLaterAgain(error as Error);
      return;
    }
    if (this.#history !== history) return;
    batch(() => {
      this.#rereads = 0;
      this.isHistoryWhole.value = history.isWhole;
      this.loadProblem.value = null;
      this.isLoading.value = false;
    });
  }

  /** The state could not be read: say so, and try again after a while. */
  #readLaterAgain(error: Error): void {
    this.#history = null;
    this.loadProblem.value = error.message;
    const longest = Math.min(LONGEST_REREAD_MS, FIRST_REREAD_MS * 2 ** this.#rereads);
    this.#rereads += 1;
    this.#rereadTimer = window.setTimeout(
      () => this.readAgain(),
      FIRST_REREAD_MS + Math.random() * (longest - FIRST_REREAD_MS),
    );
  }

  /** Try at once to read the state that could not be read. */
  readAgain(): void {
    if (this.#history !== null) return;
    // A connection that comes back without a state reads it anew.
    if (this.isOnline) void this.#readAfresh(this.#after ?? 0);
  }

  async #readDescription(): Promise<void> {
    const description = await readSession(this.id);
    this.title.value = description.title;
    this.config.value = description.config;
    // A domain may have been removed since: then the agent has no other name.
    const domain = await readDomain(description.config.domain).catch(() => null);
    if (domain !== null) this.agentName.value = domain.agent_name;
  }

  async #readGraph(): Promise<void> {
    const meanwhile: Difference[] = (this.#meanwhile = []);
    let graph = graphOf(await readGraph(this.id, null));
    if (this.#meanwhile !== meanwhile) return; // read anew since
    this.#meanwhile = null;
    // Differences that came meanwhile may be newer than the answer.
    for (const { difference, viewPosition } of meanwhile) {
      graph = foldGraph(graph, difference, viewPosition);
    }
    this.graph.value = graph;
    this.isGraphRead.value = true;
  }

  async #readStatus(): Promise<void> {
    const status = await this.request<MessageData["status_response"]>("get_status", {}).catch(
      () => null,
    );
    if (status === null) return;
    this.connections.value = status.connections;
  }

  #graphUpdated(data: MessageData["graph_updated"], viewPosition: number): void {
    if (data.update_type === "graph_rebuilt") {
      // Forget what was held: this is the whole graph.
      this.graph.value = foldGraph(EMPTY_GRAPH, data, viewPosition);
      this.isGraphRead.value = true;
      this.#meanwhile = null;
    } else if (this.#meanwhile !== null) {
      this.#meanwhile.push({ difference: data, viewPosition });
    } else if (this.isGraphRead.value) {
      this.graph.value = foldGraph(this.graph.value, data, viewPosition);
    }
  }

  #takeEvents(events: StoredEvent[]): void {
    batch(() => {
      const facts: TurnFact[] = [];
      const moments = new Map(this.moments.value.map((moment) => [moment.position, moment]));
      for (const event of events) {
        if (event.type === "SessionOpened") {
          this.seed.value = (event.data["seed"] as string[] | undefined) ?? [];
        }
        const fact = factOfEvent(event);
        if (fact !== null) facts.push(fact);
        const moment = momentOf(event);
        if (moment !== null) moments.set(moment.position, moment);
      }
      this.#fold(facts);
      if (moments.size > this.moments.value.length) {
        this.moments.value = [...moments.values()].sort((a, b) => a.position - b.position);
      }
    });
  }

  #fold(facts: readonly TurnFact[]): void {
    if (facts.length === 0) return;
    const turns = new Map(this.turns.value);
    for (const fact of facts) turns.set(fact.turnId, foldTurn(turns.get(fact.turnId), fact));
    this.turns.value = turns;
  }

  #answer(id: string, message: ServerMessage): void {
    if (message.type === "error") {
      const refused = message.data.error;
      this.pending.value = this.pending.value.map((one) =>
        one.id === id ? { ...one, refused } : one,
      );
    }
    const waiting = this.#requests.get(id);
    if (waiting === undefined) return;
    this.#requests.delete(id);
    if (message.type === "error") waiting.reject(new RefusedError(message.data.error));
    else waiting.resolve(message.data as never);
  }

  #fail(sentence: string): void {
    for (const waiting of this.#requests.values()) waiting.reject(new RefusedError(sentence));
    this.#requests.clear();
  }

  #newId(): string {
    this.#nextId += 1;
    return `${this.#idPrefix}-${this.#nextId}`;
  }
}
