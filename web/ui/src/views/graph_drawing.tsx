/** The drawing's frame: it loads the library when it is first shown. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { GraphCanvas } from "../graph_canvas";
import type { GraphState } from "../graph_state";
import { Icon } from "../parts/icon";
import { graphPlace } from "../places";
import type { Session } from "../session";

interface DrawingProps {
  session: Session;
  graph: GraphState;
  visible: ReadonlySet<string>;
}

export function GraphDrawing({ session, graph, visible }: DrawingProps) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useSignal<GraphCanvas | null>(null);
  const problem = useSignal<string | null>(null);

  useEffect(() => {
    let isGone = false;
    let made: GraphCanvas | undefined;
    import("../graph_canvas").then(
      (library) => {
        if (isGone || frame.current === null) return;
        made = new library.GraphCanvas(frame.current, session.id, (place) => {
          graphPlace.value = place;
        });
        canvas.value = made;
      },
      () => (problem.value = "The drawing could not be loaded. The list shows the same."),
    );
    const observer = new ResizeObserver(() => made?.resize());
    observer.observe(frame.current!);
    return () => {
      isGone = true;
      observer.disconnect();
      made?.destroy();
    };
  }, [session]);

  useEffect(() => canvas.value?.show(graph, visible), [canvas.value, graph, visible]);
  useEffect(
    () => canvas.value?.choose(graphPlace.value),
    [canvas.value, graphPlace.value, graph, visible],
  );

  return (
    <>
      {problem.value && <p class="problem">{problem.value}</p>}
      <div
        ref={frame}
        class="graph-canvas"
        role="img"
        aria-label={
          `A drawing of ${visible.size} things and what connects them.` +
          " The list shows the same, and can be read with a keyboard."
        }
      />
      <div class="graph-zoom" role="group" aria-label="View of the drawing">
        <button
          type="button"
          class="square"
          aria-label="Closer"
          onClick={() => canvas.value?.zoomBy(1.35)}
        >
          <Icon name="plus" />
        </button>
        <button
          type="button"
          class="square"
          aria-label="Further away"
          onClick={() => canvas.value?.zoomBy(1 / 1.35)}
        >
          <Icon name="minus" />
        </button>
        <button
          type="button"
          class="square"
          aria-label="Show everything"
          onClick={() => canvas.value?.fit()}
        >
          <Icon name="focus" />
        </button>
      </div>
    </>
  );
}
