/** The graph as a list, for a keyboard and for the eye that looks for a name. */

import { useSignal } from "@preact/signals";
import type { GraphState } from "../graph_state";
import { kindOf, typeName } from "../kinds";
import { Icon } from "../parts/icon";
import { graphPlace } from "../places";

const SHOWN = 300;

export function GraphList({ graph, visible }: { graph: GraphState; visible: ReadonlySet<string> }) {
  const filter = useSignal("");
  const wanted = filter.value.trim().toLowerCase();
  const degrees = new Map<string, number>();
  for (const edge of graph.edges.values()) {
    for (const id of [edge.source, edge.target]) degrees.set(id, (degrees.get(id) ?? 0) + 1);
  }
  const nodes = [...graph.nodes.values()]
    .filter((node) => visible.has(node.id) && node.name.toLowerCase().includes(wanted))
    .sort((a, b) => (degrees.get(b.id) ?? 0) - (degrees.get(a.id) ?? 0));
  const chosen = graphPlace.value && "node" in graphPlace.value ? graphPlace.value.node : null;
  return (
    <div class="graph-list">
      <label class="field-with-icon">
        <Icon name="search" />
        <input
          type="search"
          placeholder="Find a name"
          aria-label="Find a name"
          value={filter.value}
          onInput={(event) => (filter.value = event.currentTarget.value)}
        />
      </label>
      <ul>
        {nodes.slice(0, SHOWN).map((node) => (
          <li key={node.id}>
            <button
              type="button"
              class="graph-item"
              aria-pressed={node.id === chosen}
              onClick={() => (graphPlace.value = { node: node.id })}
            >
              <span class={`swatch kind-${kindOf(node.type)}`} />
              <span class="graph-item-name">{node.name}</span>
              <span class="graph-item-type">{typeName(node.type)}</span>
              <span class="count">{degrees.get(node.id) ?? 0}</span>
            </button>
          </li>
        ))}
      </ul>
      {nodes.length > SHOWN && (
        <p class="hint">{nodes.length - SHOWN} more: write a part of the name.</p>
      )}
      {nodes.length === 0 && <p class="hint">Nothing has that in its name.</p>}
    </div>
  );
}
