import { expect, test } from "vitest";
import { around, EMPTY_GRAPH, foldGraph, graphOf } from "../src/graph_state";
import type { GraphEdge, GraphNode } from "../src/protocol";

const node = (id: string, name = id): GraphNode => ({ id, name, type: "person", description: "" });
const edge = (source: string, target: string): GraphEdge => {
  const id = `${source}-${target}`;
  return { id, source, target, type: "knows", description: id };
};
const none = { nodes: [], edges: [] };

const GRAPH = graphOf({
  nodes: ["a", "b", "c", "d"].map((id) => node(id)),
  edges: [edge("a", "b"), edge("b", "c"), edge("c", "d")],
  view_position: 10,
});

test("a difference removes first, then puts in place of what has the same id", () => {
  const difference = {
    removed: { nodes: ["d", "a"], edges: ["c-d"] },
    added: { nodes: [node("a", "Ada"), node("e")], edges: [edge("a", "e")] },
  };

  const graph = foldGraph(GRAPH, difference, 11);

  expect([...graph.nodes.keys()].sort()).toEqual(["a", "b", "c", "e"]);
  expect(graph.nodes.get("a")?.name).toBe("Ada");
  expect([...graph.edges.keys()].sort()).toEqual(["a-b", "a-e", "b-c"]);
  expect([...graph.fresh].sort()).toEqual(["a-e", "e"]);
  expect(graph.viewPosition).toBe(11);
});

test("a difference that the graph shows already changes nothing", () => {
  expect(foldGraph(GRAPH, { added: { nodes: [node("z")], edges: [] }, removed: none }, 10)).toBe(
    GRAPH,
  );
});

test("the whole graph can come as one difference", () => {
  const whole = { added: { nodes: [node("z")], edges: [] }, removed: none };

  expect([...foldGraph(EMPTY_GRAPH, whole, 5).nodes.keys()]).toEqual(["z"]);
});

test("a neighbourhood is what so many steps reach, in either direction", () => {
  expect([...around(GRAPH, "b", 1)].sort()).toEqual(["a", "b", "c"]);
  expect([...around(GRAPH, "a", 2)].sort()).toEqual(["a", "b", "c"]);
});
