/** What a session knew at positions of its log. That does not change: it is read once. */

import { readGraph, readMemory } from "./api";
import { graphOf, type GraphState } from "./graph_state";
import type { Fact } from "./protocol";

const KEPT = 40; // graphs; one of thousands of nodes takes a few megabytes
const MANY_FACTS = 500; // what the server answers at most

type ReadGraph = typeof readGraph;
type ReadFacts = (id: string, position: number) => Promise<Fact[]>;

export class Past {
  readonly #graphs = new Map<number, Promise<GraphState>>();
  readonly #facts = new Map<number, Promise<Fact[]>>();

  constructor(
    private readonly id: string,
    private readonly readGraphAt: ReadGraph = readGraph,
    private readonly readFactsAt: ReadFacts = readFacts,
  ) {}

  graph(position: number): Promise<GraphState> {
    return remembered(this.#graphs, position, async () => {
      const graph = graphOf(await this.readGraphAt(this.id, position));
      // A view that has not read so far yet will know more of this moment.
      return { value: graph, isFinal: graph.viewPosition >= position };
    });
  }

  facts(position: number): Promise<Fact[]> {
    return remembered(this.#facts, position, async () => {
      return { value: await this.readFactsAt(this.id, position), isFinal: true };
    });
  }
}

/** A value by position, read at most once; one that is not final, or failed, is read again. */
function remembered<Value>(
  kept: Map<number, Promise<Value>>,
  position: number,
  read: () => Promise<{ value: Value; isFinal: boolean }>,
): Promise<Value> {
  const known = kept.get(position);
  if (known !== undefined) return known;
  const forget = (): void => {
    if (kept.get(position) === reading) kept.delete(position);
  };
  const reading: Promise<Value> = read().then(
    ({ value, isFinal }) => {
      if (!isFinal) forget();
      return value;
    },
    (error: unknown) => {
      forget();
      throw error;
    },
  );
  kept.set(position, reading);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value!);
  return reading;
}

async function readFacts(id: string, position: number): Promise<Fact[]> {
  return (await readMemory(id, "facts", { limit: MANY_FACTS, asOf: position })).data;
}
