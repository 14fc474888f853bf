/** The knowledge graph as this page holds it, and how differences change it. */

import type { GraphData, GraphEdge, GraphNode } from "./protocol";

export interface GraphState {
  nodes: ReadonlyMap<string, GraphNode>;
  edges: ReadonlyMap<string, GraphEdge>;
  viewPosition: number; // how far the server's view had read the log
  fresh: ReadonlySet<string>; // ids of nodes and edges that the newest difference added
}

export interface GraphDifference {
  added: { nodes: GraphNode[]; edges: GraphEdge[] };
  removed: { nodes: string[]; edges: string[] };
}

export const EMPTY_GRAPH: GraphState = {
  nodes: new Map(),
  edges: new Map(),
  viewPosition: 0,
  fresh: new Set(),
};

export function graphOf(data: GraphData): GraphState {
  return {
    nodes: new Map(data.nodes.map((node) => [node.id, node])),
    edges: new Map(data.edges.map((edge) => [edge.id, edge])),
    viewPosition: data.view_position,
    fresh: new Set(),
  };
}

/**
 * The graph after a difference; unchanged by one that it shows already.
 *
 * Remove first, then put what is added, in place of anything with the same id.
 */
export function foldGraph(
  graph: GraphState,
  difference: GraphDifference,
  viewPosition: number,
): GraphState {
  if (viewPosition <= graph.viewPosition) return graph;
  const nodes = new Map(graph.nodes);
  const edges = new Map(graph.edges);
  for (const id of difference.removed.nodes) nodes.delete(id);
  for (const id of difference.removed.edges) edges.delete(id);
  const fresh = new Set<string>();
  for (const node of difference.added.nodes) {
    if (!graph.nodes.has(node.id)) fresh.add(node.id);
    nodes.set(node.id, node);
  }
  for (const edge of difference.added.edges) {
    if (!graph.edges.has(edge.id)) fresh.add(edge.id);
    edges.set(edge.id, edge);
  }
  return { nodes, edges, viewPosition, fresh };
}

/** The ids of a node and of everything within so many edges of it. */
export function around(graph: GraphState, id: string, hops: number): Set<string> {
  const reached = new Set([id]);
  for (let hop = 0; hop < hops; hop += 1) {
    const before = new Set(reached);
    for (const edge of graph.edges.values()) {
      if (before.has(edge.source)) reached.add(edge.target);
      if (before.has(edge.target)) reached.add(edge.source);
    }
  }
  return reached;
}

/** How many nodes there are of each type, the most frequent first. */
export function nodeTypes(graph: GraphState): [type: string, count: number][] {
  const counts = new Map<string, number>();
  for (const node of graph.nodes.values()) {
    counts.set(node.type, (counts.get(node.type) ?? 0) + 1);
  }
  return [...counts].sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0]));
}

/** What the panel is narrowed to: an entity, and what is so many edges around it. */
export interface Focus {
  id: string;
  hops: number;
}
