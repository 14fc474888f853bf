import { describe, expect, test } from "vitest";
import { Past } from "../src/past";

function counted(viewPosition: () => number) {
  const asked: number[] = [];
  const read = async (_id: string, position: number | null) => {
    asked.push(position!);
    if (viewPosition() < 0) throw new Error("The server does not answer.");
    return { nodes: [], edges: [], view_position: viewPosition() };
  };
  return { asked, past: new Past("s", read) };
}

describe("the graph as of a position", () => {
  test("is read once, however often it is shown", async () => {
    const { asked, past } = counted(() => 9);

    await Promise.all([past.graph(3), past.graph(3), past.graph(4)]);
    await past.graph(3);

    expect(asked).toEqual([3, 4]);
  });

  test("is read again where the view had not read so far, or nothing was answered", async () => {
    let view = 2;
    const { asked, past } = counted(() => view);

    await past.graph(3);
    view = -1;
    await expect(past.graph(3)).rejects.toThrow("does not answer");
    view = 3;
    await past.graph(3);
    await past.graph(3);

    expect(asked).toEqual([3, 3, 3]);
  });
});
