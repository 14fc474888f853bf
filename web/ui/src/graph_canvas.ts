/**
 * The graph as a drawing. Cytoscape draws, d3-force lays out.
 *
 * This module is loaded when a graph is first shown. Nodes keep their places when the graph grows,
 * and when one moves through time: only what is new has to find its own.
 */

import cytoscape, {
  type CollectionReturnValue,
  type Core,
  type ElementDefinition,
  type NodeSingular,
  type Position,
} from "cytoscape";
import {
  forceCollide,
  forceLink,
  forceManyBody,
  forceSimulation,
  forceX,
  forceY,
  type Simulation,
} from "d3-force";
import type { GraphState } from "./graph_state";
import { kindOf } from "./kinds";
import type { GraphPlace } from "./places";

const GLOW_MS = 6_000;
const FRAME_MS = 8; // of a frame may go into layout
const FIRST_TICKS_MS = 250; // before the first picture: it shall not explode before one's eyes

const LARGEST_FIT = 1;
const READABLE_ZOOM = 0.85; // below, what is chosen is looked at from closer by
const MARGIN_PX = 28;

interface Body {
  id: string;
  x: number;
  y: number;
  vx?: number;
  vy?: number;
  fx?: number | null;
  fy?: number | null;
  size: number;
  reach: number; // how far others stay away: a name needs room, too
}

interface Spring {
  source: string | Body;
  target: string | Body;
}

type Places = Map<string, { x: number; y: number }>;

/** Where nodes were, by session: they are found there again. */
const remembered = new Map<string, Places>();

export class GraphCanvas {
  readonly #cy: Core;
  readonly #places: Places;
  readonly #bodies = new Map<string, Body>();
  readonly #simulation: Simulation<Body, Spring>;
  readonly #isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  readonly #scheme = matchMedia("(prefers-color-scheme: dark)");
  readonly #themes = new MutationObserver(() => this.#dress());
  #frame = 0;
  #isFramed = true; // until the reader moves the picture, it keeps all in view
  #isClose = false; // at what was chosen, to go back to all when nothing is
  #glowTimer: number | undefined;

  constructor(
    container: HTMLElement,
    sessionId: string,
    onChoose: (place: GraphPlace | null) => void,
  ) {
    this.#places = remembered.get(sessionId) ?? new Map();
    remembered.set(sessionId, this.#places);
    standInForStyle();
    this.#cy = cytoscape({
      container,
      minZoom: 0.05,
      maxZoom: 4,
      boxSelectionEnabled: false,
      selectionType: "single",
      autounselectify: true,
      hideEdgesOnViewport: false,
      pixelRatio: "auto",
    });
    this.#dress();
    this.#scheme.addEventListener("change", this.#dress);
    this.#themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    // A picture of the frame's own shape fills it; names lie across and make it wider.
    const shape = (1.4 * Math.max(1, container.clientHeight)) / Math.max(1, container.clientWidth);
    this.#simulation = forceSimulation<Body, Spring>([])
      .force("charge", forceManyBody<Body>().strength(-260).distanceMax(420).theta(1))
      .force("x", forceX<Body>(0).strength(0.06 * shape))
      .force("y", forceY<Body>(0).strength(0.06 / shape))
      .force("collide", forceCollide<Body>((body) => body.reach))
      .alphaDecay(0.035)
      .stop();
    this.#cy.on("tap", (event) => {
      if (event.target === this.#cy) onChoose(null);
      else if (event.target.isNode()) onChoose({ node: event.target.id() });
      else onChoose({ edge: event.target.id() });
    });
    // What connects a thing is told when one points at it.
    this.#cy.on("mouseover", "node", (event) => event.target.connectedEdges().addClass("pointed"));
    this.#cy.on("mouseout", "node", (event) => event.target.connectedEdges().removeClass("pointed"));
    this.#cy.on("mouseover", "edge", (event) => event.target.addClass("pointed"));
    this.#cy.on("mouseout", "edge", (event) => event.target.removeClass("pointed"));
    this.#cy.on("grab", "node", (event) => this.#hold(event.target as NodeSingular));
    this.#cy.on("drag", "node", (event) => this.#hold(event.target as NodeSingular));
    this.#cy.on("free", "node", (event) => this.#free(event.target as NodeSingular));
    this.#cy.on("scrollzoom pinchzoom dragpan", () => (this.#isFramed = this.#isClose = false));
  }

  /** Draw a graph: `visible` says which of its nodes. */
  show(graph: GraphState, visible: ReadonlySet<string>): void {
    const nodes = [...graph.nodes.values()].filter((node) => visible.has(node.id));
    const edges = [...graph.edges.values()].filter(
      (edge) => visible.has(edge.source) && visible.has(edge.target),
    );
    const degrees = new Map<string, number>();
    for (const edge of edges) {
      for (const id of [edge.source, edge.target]) degrees.set(id, (degrees.get(id) ?? 0) + 1);
    }
    const wanted = new Map<string, ElementDefinition>();
    for (const node of nodes) {
      const size = node.type === "literal" ? 12 : 16 + 5 * Math.sqrt(degrees.get(node.id) ?? 0);
      wanted.set(node.id, {
        group: "nodes",
        data: { id: node.id, name: node.name, kind: kindOf(node.type), size },
      });
    }
    for (const edge of edges) {
      const { id, source, target, type } = edge;
      wanted.set(id, {
        group: "edges",
        data: { id, source, target, name: type.replace(/_/g, " ") },
      });
    }
    const changed = this.#change(wanted);
    this.#glow(graph.fresh);
    if (changed) this.#settle(edges);
  }

  /** Mark a node or an edge, and bring it into view. */
  choose(place: GraphPlace | null): void {
    this.#cy.elements().removeClass("chosen faded told");
    if (place === null) {
      if (this.#isClose) this.fit();
      return;
    }
    const chosen = this.#cy.getElementById("node" in place ? place.node : place.edge);
    if (chosen.empty()) return;
    const isNode = "node" in place;
    const near = isNode ? chosen.closedNeighborhood() : chosen.union(chosen.connectedNodes());
    this.#cy.elements().not(near).addClass("faded");
    chosen.addClass("chosen");
    near.edges().addClass("told");
    const box = near.renderedBoundingBox();
    const isOutside =
      box.x1 < 0 || box.y1 < 0 || box.x2 > this.#cy.width() || box.y2 > this.#cy.height();
    if (!isOutside && this.#cy.zoom() >= READABLE_ZOOM) return;
    this.#isClose ||= this.#isFramed;
    this.#isFramed = false;
    this.#look(near);
  }

  fit(): void {
    this.#isFramed = true;
    this.#isClose = false;
    this.#look(this.#cy.elements());
  }

  zoomBy(factor: number): void {
    this.#isFramed = this.#isClose = false;
    const level = this.#cy.zoom() * factor;
    const renderedPosition = { x: this.#cy.width() / 2, y: this.#cy.height() / 2 };
    this.#cy.zoom({ level, renderedPosition });
  }

  resize(): void {
    this.#cy.resize();
    if (this.#isFramed) this.#frameAll();
  }

  destroy(): void {
    cancelAnimationFrame(this.#frame);
    window.clearTimeout(this.#glowTimer);
    this.#scheme.removeEventListener("change", this.#dress);
    this.#themes.disconnect();
    this.#cy.destroy();
  }

  /** Make the drawing hold exactly these elements; whether any came or went. */
  #change(wanted: Map<string, ElementDefinition>): boolean {
    let changed = false;
    this.#cy.batch(() => {
      const gone = this.#cy.elements().filter((element) => !wanted.has(element.id()));
      changed = gone.nonempty();
      for (const node of gone.nodes()) this.#bodies.delete(node.id());
      gone.remove();
      const added: ElementDefinition[] = [];
      for (const [id, element] of wanted) {
        const known = this.#cy.getElementById(id);
        if (known.empty()) added.push(element);
        else if (known.data("name") !== element.data["name"] || known.isNode()) known.data(element.data);
      }
      changed ||= added.length > 0;
      for (const element of added) {
        if (element.group === "nodes") element.position = this.#placeFor(element.data.id!, wanted);
      }
      this.#cy.add(added);
    });
    return changed;
  }

  /** Where a new node begins: where it was, or beside one that it is connected with. */
  #placeFor(id: string, wanted: Map<string, ElementDefinition>): { x: number; y: number } {
    const known = this.#places.get(id);
    const size = Number(wanted.get(id)?.data["size"] ?? 18);
    const at = known ? { ...known } : this.#beside(id, wanted);
    const name = String(wanted.get(id)?.data["name"] ?? "");
    this.#bodies.set(id, { id, ...at, size, reach: reachOf(size, name) });
    return at;
  }

  #beside(id: string, wanted: Map<string, ElementDefinition>): { x: number; y: number } {
    for (const { group, data } of wanted.values()) {
      if (group !== "edges") continue;
      const other = data["source"] === id ? data["target"] : data["target"] === id ? data["source"] : null;
      const body = other === null ? undefined : this.#bodies.get(String(other));
      if (body) return { x: body.x + spread(id, 40), y: body.y + spread(`${id}y`, 40) };
    }
    return { x: spread(id, 260), y: spread(`${id}y`, 200) };
  }

  #settle(edges: readonly { source: string; target: string }[]): void {
    const isFirst = this.#simulation.nodes().length === 0;
    this.#simulation.nodes([...this.#bodies.values()]);
    this.#simulation.force(
      "link",
      forceLink<Body, Spring>(edges.map(({ source, target }) => ({ source, target })))
        .id((body) => body.id)
        .distance(116)
        .strength(0.4),
    );
    this.#simulation.alpha(isFirst ? 1 : 0.45);
    this.#tickFor(this.#isCalm ? 1_500 : isFirst ? FIRST_TICKS_MS : FRAME_MS);
    this.#place();
    this.#run();
  }

  #run(): void {
    cancelAnimationFrame(this.#frame);
    if (this.#isCalm) return;
    const step = (): void => {
      this.#tickFor(FRAME_MS);
      this.#place();
      if (this.#simulation.alpha() > this.#simulation.alphaMin()) {
        this.#frame = requestAnimationFrame(step);
      }
    };
    this.#frame = requestAnimationFrame(step);
  }

  #tickFor(budget_ms: number): void {
    const end = performance.now() + budget_ms;
    do this.#simulation.tick();
    while (performance.now() < end && this.#simulation.alpha() > this.#simulation.alphaMin());
  }

  #place(): void {
    this.#cy.batch(() => {
      for (const body of this.#bodies.values()) {
        this.#places.set(body.id, { x: body.x, y: body.y });
        const node = this.#cy.getElementById(body.id);
        if (!node.grabbed()) node.position({ x: body.x, y: body.y });
      }
    });
    if (this.#isFramed) this.#frameAll();
  }

  #frameAll(): void {
    if (this.#cy.elements().nonempty()) this.#cy.viewport(this.#viewOf(this.#cy.elements()));
  }

  #hold(node: NodeSingular): void {
    const body = this.#bodies.get(node.id());
    if (!body) return;
    this.#isFramed = false;
    const { x, y } = node.position();
    Object.assign(body, { x, y, fx: x, fy: y });
    if (this.#simulation.alpha() < 0.12) {
      this.#simulation.alpha(0.2);
      this.#run();
    }
  }

  #free(node: NodeSingular): void {
    const body = this.#bodies.get(node.id());
    if (body) body.fx = body.fy = null;
  }

  #glow(fresh: ReadonlySet<string>): void {
    const added = this.#cy.elements().filter((element) => fresh.has(element.id()));
    if (added.empty()) return;
    added.addClass("fresh");
    window.clearTimeout(this.#glowTimer);
    this.#glowTimer = window.setTimeout(() => this.#cy.elements().removeClass("fresh"), GLOW_MS);
  }

  /** Move the picture to some elements. */
  #look(elements: CollectionReturnValue): void {
    if (elements.empty()) return;
    this.#cy.stop();
    const view = this.#viewOf(elements);
    if (this.#isCalm) this.#cy.viewport(view);
    else this.#cy.animate(view, { duration: 350, easing: "ease-out-cubic" });
  }

  /** Where to look from to see some elements whole, and not larger than life. */
  #viewOf(elements: CollectionReturnValue): { zoom: number; pan: Position } {
    const box = elements.boundingBox();
    const width = this.#cy.width();
    const height = this.#cy.height();
    const zoom = Math.max(
      this.#cy.minZoom(),
      Math.min(LARGEST_FIT, (width - 2 * MARGIN_PX) / box.w, (height - 2 * MARGIN_PX) / box.h),
    );
    return {
      zoom,
      pan: {
        x: (width - zoom * (box.x1 + box.x2)) / 2,
        y: (height - zoom * (box.y1 + box.y2)) / 2,
      },
    };
  }

  /** Colours from the page's own, which differ between light and dark. */
  #dress = (): void => {
    const probe = document.createElement("span");
    this.#cy.container()!.append(probe);
    const colour = (name: string): string => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const ink = colour("ink");
    const paper = colour("surface");
    const glow = colour("glow");
    const kinds = Array.from({ length: 8 }, (_, kind) => colour(`kind-${kind}`));
    this.#cy.style([
      {
        selector: "node",
        style: {
          width: "data(size)",
          height: "data(size)",
          "background-color": (node: NodeSingular) => kinds[Number(node.data("kind"))] ?? ink,
          "border-width": 2,
          "border-color": paper,
          label: "data(name)",
          color: ink,
          "font-size": 15,
          "font-family": "system-ui, sans-serif",
          "min-zoomed-font-size": 6,
          "text-valign": "bottom",
          "text-margin-y": 4,
          "text-outline-color": paper,
          "text-outline-width": 3,
          "text-wrap": "ellipsis",
          "text-max-width": "180px",
          "underlay-color": glow,
          "underlay-opacity": 0,
          "underlay-padding": 10,
          "transition-property": "underlay-opacity, opacity",
          "transition-duration": 600,
        },
      },
      {
        selector: "edge",
        style: {
          width: 1.4,
          "line-color": colour("edge"),
          "line-opacity": 0.65,
          "target-arrow-color": colour("edge"),
          "target-arrow-shape": "triangle",
          "arrow-scale": 0.8,
          "curve-style": "bezier",
          label: "data(name)",
          color: colour("soft"),
          "font-size": 10,
          "font-family": "system-ui, sans-serif",
          "min-zoomed-font-size": 12, // from a distance, names of edges are only in the way
          "text-outline-color": paper,
          "text-outline-width": 2.5,
          "text-rotation": "autorotate",
          "underlay-color": glow,
          "underlay-opacity": 0,
          "underlay-padding": 4,
        },
      },
      {
        selector: "edge.told, edge.pointed",
        style: { "font-size": 13, "min-zoomed-font-size": 0, color: ink, "z-index": 2 },
      },
      { selector: ".fresh", style: { "underlay-opacity": 0.38 } },
      { selector: ".faded", style: { opacity: 0.18 } },
      { selector: "node.chosen", style: { "border-color": glow, "border-width": 4 } },
      {
        selector: "edge.chosen",
        style: {
          "line-color": glow,
          "target-arrow-color": glow,
          "line-opacity": 1,
          width: 3,
        },
      },
    ]);
    probe.remove();
  };
}

/**
 * Keep Cytoscape from putting a style element into the page, which the Content-Security-Policy
 * refuses: it makes none where one with its id is there. The style is ours (.graph-canvas).
 */
function standInForStyle(): void {
  const id = "__________cytoscape_stylesheet";
  if (document.getElementById(id)) return;
  const standIn = document.createElement("meta");
  standIn.id = id;
  document.head.append(standIn);
}

function reachOf(size: number, name: string): number {
  return size / 2 + 18 + Math.min(name.length, 22) * 1.4;
}

/** A number in -range..range that depends on the text alone: the same graph, the same picture. */
function spread(text: string, range: number): number {
  let sum = 2166136261;
  for (let index = 0; index < text.length; index += 1) {
    sum = Math.imul(sum ^ text.charCodeAt(index), 16777619) >>> 0;
  }
  return ((sum % 2000) / 1000 - 1) * range;
}
