/** What the session knows: a drawing or a list, with everything that can be done to it. */

import { useComputed, useSignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { graphExportUrl } from "../api";
import { around, EMPTY_GRAPH, nodeTypes, type Focus, type GraphState } from "../graph_state";
import { kindOf, typeName } from "../kinds";
import { Icon } from "../parts/icon";
import { graphPlace } from "../places";
import type { Session } from "../session";
import { GraphDetails } from "./graph_details";
import { GraphDrawing } from "./graph_drawing";
import { GraphList } from "./graph_list";

const FORMATS = [
  ["json", "JSON", "json"],
  ["turtle", "Turtle", "ttl"],
  ["json-ld", "JSON-LD", "jsonld"],
  ["graphml", "GraphML", "graphml"],
] as const;

export function GraphPanel({ session }: { session: Session }) {
  const hidden = useSignal<ReadonlySet<string>>(new Set()); // types
  const focus = useSignal<Focus | null>(null);
  const isList = useSignal(false);
  const past = usePastGraph(session);
  const graph = session.asOf.value === null ? session.graph.value : past.value;
  const shown = useComputed(() => {
    const of = session.asOf.value === null ? session.graph.value : past.value;
    return visibleNodes(of, hidden.value, focus.value);
  });

  return (
    <section class="graph" aria-label="Graph">
      <div class="panel-bar">
        <TypeFilter graph={graph} hidden={hidden} />
        <div class="graph-tools">
          <div class="switch" role="group" aria-label="How to show the graph">
            <button
              type="button"
              class="small"
              aria-pressed={!isList.value}
              onClick={() => (isList.value = false)}
            >
              <Icon name="graph" /> Map
            </button>
            <button
              type="button"
              class="small"
              aria-pressed={isList.value}
              onClick={() => (isList.value = true)}
            >
              <Icon name="list" /> List
            </button>
          </div>
          <ExportMenu session={session} />
        </div>
      </div>
      {focus.value && (
        <p class="panel-note focus-note">
          Around {graph.nodes.get(focus.value.id)?.name ?? "something that is not there yet"}
          <select
            aria-label="How far"
            value={focus.value.hops}
            onChange={(event) =>
              (focus.value = { id: focus.value!.id, hops: Number(event.currentTarget.value) })
            }
          >
            <option value={1}>1 step</option>
            <option value={2}>2 steps</option>
            <option value={3}>3 steps</option>
          </select>
          <button type="button" class="small" onClick={() => (focus.value = null)}>
            Show all
          </button>
        </p>
      )}
      <div class="graph-stage">
        {graph.nodes.size === 0 ? (
          <p class="hint graph-empty">
            {session.isGraphRead.value ? "Nothing is known yet." : "Reading the graph…"}
          </p>
        ) : isList.value ? (
          <GraphList graph={graph} visible={shown.value} />
        ) : (
          <GraphDrawing session={session} graph={graph} visible={shown.value} />
        )}
        <p class="graph-count" role="status">
          {counted(graph.nodes.size, "thing")}, {counted(graph.edges.size, "fact")}
          {shown.value.size < graph.nodes.size && ` · ${shown.value.size} shown`}
        </p>
      </div>
      {graphPlace.value && (
        <GraphDetails session={session} graph={graph} place={graphPlace.value} focus={focus} />
      )}
    </section>
  );
}

/** The graph as of the slider's moment, from the server. */
function usePastGraph(session: Session): Signal<GraphState> {
  const past = useSignal<GraphState>(EMPTY_GRAPH);
  const asOf = session.asOf.value;
  useEffect(() => {
    if (asOf === null) return;
    let isLeft = false;
    // The slider passes over many moments on its way to one.
    const timer = window.setTimeout(() => {
      session.past.graph(asOf).then(
        (graph) => {
          if (isLeft) return;
          const fresh = [...graph.nodes.keys(), ...graph.edges.keys()].filter(
            (id) => !past.value.nodes.has(id) && !past.value.edges.has(id),
          );
          const isGrowth = past.value.nodes.size > 0;
          past.value = { ...graph, fresh: new Set(isGrowth ? fresh : []) };
        },
        () => undefined,
      );
    }, 60);
    return () => {
      window.clearTimeout(timer);
      isLeft = true;
    };
  }, [session, asOf]);
  return past;
}

function visibleNodes(
  graph: GraphState,
  hidden: ReadonlySet<string>,
  focus: Focus | null,
): ReadonlySet<string> {
  const near = focus && graph.nodes.has(focus.id) ? around(graph, focus.id, focus.hops) : null;
  const visible = new Set<string>();
  for (const node of graph.nodes.values()) {
    if (hidden.has(node.type) || (near && !near.has(node.id))) continue;
    visible.add(node.id);
  }
  return visible;
}

function TypeFilter({ graph, hidden }: { graph: GraphState; hidden: Signal<ReadonlySet<string>> }) {
  function toggle(type: string): void {
    const next = new Set(hidden.value);
    if (!next.delete(type)) next.add(type);
    hidden.value = next;
  }
  return (
    <div class="types" role="group" aria-label="Types to show">
      {nodeTypes(graph).map(([type, count]) => (
        <button
          key={type}
          type="button"
          class="type"
          aria-pressed={!hidden.value.has(type)}
          onClick={() => toggle(type)}
        >
          <span class={`swatch kind-${kindOf(type)}`} /> {typeName(type)}
          <span class="type-count">{count}</span>
        </button>
      ))}
    </div>
  );
}

function ExportMenu({ session }: { session: Session }) {
  return (
    <details class="menu">
      <summary>
        <Icon name="download" /> Export
      </summary>
      <ul>
        {FORMATS.map(([format, name, suffix]) => (
          <li key={format}>
            <a
              href={graphExportUrl(session.id, format, session.asOf.value)}
              download={`graph.${suffix}`}
            >
              {name}
            </a>
          </li>
        ))}
      </ul>
    </details>
  );
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
