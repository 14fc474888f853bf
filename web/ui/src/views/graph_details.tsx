/** One node or edge: what is known, in whose words, and what can be done about it. */

import { useSignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Focus, GraphState } from "../graph_state";
import { kindOf, typeName } from "../kinds";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { fullTime } from "../parts/time";
import { graphPlace, jumpTo, type GraphPlace } from "../places";
import type { GraphEdge, GraphNode } from "../protocol";
import type { Session } from "../session";

interface DetailsProps {
  session: Session;
  graph: GraphState;
  place: GraphPlace;
  focus: Signal<Focus | null>;
}

export function GraphDetails({ session, graph, place, focus }: DetailsProps) {
  const node = "node" in place ? graph.nodes.get(place.node) : undefined;
  const edge = "edge" in place ? graph.edges.get(place.edge) : undefined;
  return (
    <div class="details" role="region" aria-label="Details">
      <button
        type="button"
        class="quiet square details-close"
        aria-label="Close the details"
        onClick={() => (graphPlace.value = null)}
      >
        <Icon name="close" />
      </button>
      {node && <NodeDetails session={session} graph={graph} node={node} focus={focus} />}
      {edge && <EdgeDetails key={edge.id} session={session} graph={graph} edge={edge} />}
      {!node && !edge && (
        <p class="hint">
          {session.asOf.value === null ? "This is not known any more." : "Not known by then."}
        </p>
      )}
    </div>
  );
}

function NodeDetails(props: {
  session: Session;
  graph: GraphState;
  node: GraphNode;
  focus: Signal<Focus | null>;
}) {
  const { session, graph, node, focus } = props;
  const isMerging = useSignal(false);
  const edges = [...graph.edges.values()].filter(
    (edge) => edge.source === node.id || edge.target === node.id,
  );
  const isFocused = focus.value?.id === node.id;
  return (
    <>
      <h2 class="details-title">
        <span class={`swatch kind-${kindOf(node.type)}`} /> {node.name}
        <span class="details-type">{typeName(node.type)}</span>
      </h2>
      {node.description && <p class="hint">{node.description}</p>}
      <div class="details-actions">
        <button
          type="button"
          class="small"
          aria-pressed={isFocused}
          onClick={() => (focus.value = isFocused ? null : { id: node.id, hops: 1 })}
        >
          <Icon name="focus" /> Only its neighbours
        </button>
        <button
          type="button"
          class="small"
          disabled={session.asOf.value !== null || !session.isOnline}
          onClick={() => (isMerging.value = true)}
        >
          Merge…
        </button>
      </div>
      <ul class="facts">
        {edges.map((edge) => (
          <li key={edge.id}>
            <button
              type="button"
              class="fact"
              onClick={() => (graphPlace.value = { edge: edge.id })}
            >
              {edge.description}
            </button>
          </li>
        ))}
      </ul>
      {isMerging.value && (
        <MergeDialog
          session={session}
          graph={graph}
          node={node}
          onClose={() => (isMerging.value = false)}
        />
      )}
    </>
  );
}

function EdgeDetails(props: { session: Session; graph: GraphState; edge: GraphEdge }) {
  const { session, graph, edge } = props;
  const isRetracting = useSignal(false);
  const meta = edge.metadata ?? {};
  const ends = [graph.nodes.get(edge.source), graph.nodes.get(edge.target)];
  return (
    <>
      <h2 class="details-title">{edge.description}</h2>
      {meta.quote && (
        <blockquote class="quote">
          <p>“{meta.quote}”</p>
          <footer>
            {meta.speaker}
            {meta.said_at && `, ${fullTime(meta.said_at)}`}
          </footer>
        </blockquote>
      )}
      <div class="details-actions">
        {meta.turn_id ? (
          <button
            type="button"
            class="small"
            onClick={() => void jumpTo(session, meta.turn_id!)}
          >
            <Icon name="talk" /> Go to the message
          </button>
        ) : (
          <span class="hint">Known from the start</span>
        )}
        {ends.map(
          (node) =>
            node && (
              <button
                key={node.id}
                type="button"
                class="small"
                onClick={() => (graphPlace.value = { node: node.id })}
              >
                <span class={`swatch kind-${kindOf(node.type)}`} /> {node.name}
              </button>
            ),
        )}
        <button
          type="button"
          class="small"
          disabled={session.asOf.value !== null || !session.isOnline}
          onClick={() => (isRetracting.value = true)}
        >
          Retract…
        </button>
      </div>
      <p class="hint">
        Found by {meta.extractor ?? "an extractor"}
        {meta.confidence !== undefined && `, confidence ${meta.confidence.toFixed(2)}`}
        {meta.position !== undefined && `, at position ${meta.position}`}
      </p>
      {isRetracting.value && (
        <RetractDialog session={session} edge={edge} onClose={() => (isRetracting.value = false)} />
      )}
    </>
  );
}

function RetractDialog(props: { session: Session; edge: GraphEdge; onClose: () => void }) {
  const { session, edge, onClose } = props;
  const reason = useSignal("");
  const problem = useSignal<string | null>(null);
  async function retract(event: Event): Promise<void> {
    event.preventDefault();
    try {
      await session.retract(edge.id, reason.value.trim());
      onClose();
    } catch (error) {
      problem.value = (error as Error).message;
    }
  }
  return (
    <Dialog title="Retract this statement?" onClose={onClose}>
      <form onSubmit={retract}>
        <p>
          “{edge.description}” is taken out of the graph. The log keeps it: the time slider still
          shows what was known before.
        </p>
        <label class="field">
          <span>Why? (you can leave this out)</span>
          <input
            type="text"
            maxLength={500}
            value={reason.value}
            onInput={(event) => (reason.value = event.currentTarget.value)}
          />
        </label>
        <Problem text={problem.value} />
        <div class="dialog-actions">
          <button type="button" onClick={onClose}>
            Keep it
          </button>
          <button type="submit" class="danger">
            Retract
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function MergeDialog(props: {
  session: Session;
  graph: GraphState;
  node: GraphNode;
  onClose: () => void;
}) {
  const { session, graph, node, onClose } = props;
  const other = useSignal("");
  const problem = useSignal<string | null>(null);
  const mergeId = useSignal<string | null>(null);
  const others = [...graph.nodes.values()]
    .filter((one) => one.id !== node.id && one.type !== "literal")
    .sort((a, b) => a.name.localeCompare(b.name));
  useEffect(() => {
    other.value ||= others[0]?.id ?? "";
  }, []);

  async function merge(event: Event): Promise<void> {
    event.preventDefault();
    try {
      mergeId.value = (await session.merge(node.id, other.value)).merge_id;
    } catch (error) {
      problem.value = (error as Error).message;
    }
  }

  async function undo(): Promise<void> {
    try {
      await session.split(mergeId.value!);
      onClose();
    } catch (error) {
      problem.value = (error as Error).message;
    }
  }

  if (mergeId.value !== null) {
    return (
      <Dialog title="They are one now" onClose={onClose}>
        <p>The graph shows it as soon as its view has read this.</p>
        <Problem text={problem.value} />
        <div class="dialog-actions">
          <button type="button" onClick={undo}>
            Take it back
          </button>
          <button type="button" class="primary" onClick={onClose}>
            Done
          </button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={`Merge into ${node.name}`} onClose={onClose}>
      <form onSubmit={merge}>
        <label class="field">
          <span>What is the same thing as {node.name}?</span>
          <select
            value={other.value}
            onChange={(event) => (other.value = event.currentTarget.value)}
          >
            {others.map((one) => (
              <option key={one.id} value={one.id}>
                {one.name} ({one.type})
              </option>
            ))}
          </select>
        </label>
        <p class="hint">
          Its facts become facts about {node.name}. A merge can be taken back.
        </p>
        <Problem text={problem.value} />
        <div class="dialog-actions">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={!other.value}>
            Merge
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Problem({ text }: { text: string | null }) {
  return text === null ? null : (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}
