/**
 * A long list of which only what is near the viewport is in the document.
 *
 * Heights are measured when an item is shown, and guessed before. The list sticks to its end while
 * the reader is there, and keeps what the reader sees in place when something above it changes.
 */

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

const GUESS_PX = 150;
const OVERSCAN_PX = 900;
const AT_END_PX = 60;

export interface WindowedProps<Item> {
  items: readonly Item[];
  keyOf: (item: Item) => string;
  children: (item: Item, index: number) => ComponentChildren;
  after?: ComponentChildren; // behind the last item, always in the document
  label: string;
  /** An item to bring into view; a new object each time asks again. */
  jump: { key: string } | null;
  onNearStart: () => void;
  onAtEnd?: (isAtEnd: boolean) => void;
}

export function Windowed<Item>(props: WindowedProps<Item>) {
  const { items, keyOf, jump, onNearStart, onAtEnd } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<string, number>());
  const isAtEnd = useRef(true);
  const [view, setView] = useState({ top: 0, height: 800 });
  const [measured, setMeasured] = useState(0);
  const keys = useMemo(() => items.map(keyOf), [items]);

  const tops = useMemo(() => {
    const sums = new Float64Array(keys.length + 1);
    for (const [index, key] of keys.entries()) {
      sums[index + 1] = sums[index]! + (heights.current.get(key) ?? GUESS_PX);
    }
    return sums;
  }, [keys, measured]);

  // What the reader sees first, to be kept in place when heights above it turn out otherwise.
  const anchor = useRef<{ key: string; offset: number } | null>(null);
  const first = Math.max(0, indexAt(tops, view.top - OVERSCAN_PX));
  const last = Math.min(keys.length, indexAt(tops, view.top + view.height + OVERSCAN_PX) + 1);

  const look = useCallback(() => {
    const element = scroller.current;
    if (!element) return;
    const gap = element.scrollHeight - element.scrollTop - element.clientHeight;
    const wasAtEnd = isAtEnd.current;
    isAtEnd.current = gap < AT_END_PX;
    if (wasAtEnd !== isAtEnd.current) onAtEnd?.(isAtEnd.current);
    if (element.scrollTop < OVERSCAN_PX) onNearStart();
    setView({ top: element.scrollTop, height: element.clientHeight });
  }, [onNearStart, onAtEnd]);

  const resized = useMemo(
    () =>
      new ResizeObserver((entries) => {
        let changed = false;
        for (const entry of entries) {
          const key = (entry.target as HTMLElement).dataset["key"];
          const height = entry.borderBoxSize[0]?.blockSize ?? 0;
          if (key === undefined || height === 0) continue;
          if (Math.abs((heights.current.get(key) ?? 0) - height) > 0.5) {
            heights.current.set(key, height);
            changed = true;
          }
        }
        if (changed) setMeasured((count) => count + 1);
        else stick();
      }),
    [],
  );
  useEffect(() => () => resized.disconnect(), []);

  const watch = useCallback((element: HTMLDivElement | null) => {
    if (element) resized.observe(element);
  }, []);

  function stick(): void {
    const element = scroller.current;
    if (element && isAtEnd.current) element.scrollTop = element.scrollHeight;
  }

  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    if (isAtEnd.current) {
      element.scrollTop = element.scrollHeight;
    } else if (anchor.current) {
      const index = keys.indexOf(anchor.current.key);
      const wanted = (tops[index] ?? 0) + anchor.current.offset;
      if (index >= 0 && Math.abs(wanted - element.scrollTop) > 1) element.scrollTop = wanted;
    }
  }, [tops]);

  useLayoutEffect(() => {
    const index = Math.max(0, indexAt(tops, view.top));
    const key = keys[index];
    anchor.current = key === undefined ? null : { key, offset: view.top - tops[index]! };
  }, [view.top]);

  useLayoutEffect(() => {
    const element = scroller.current;
    const index = jump ? keys.indexOf(jump.key) : -1;
    if (!element || index < 0) return;
    isAtEnd.current = false;
    onAtEnd?.(false);
    element.scrollTop = Math.max(0, tops[index]! - 24);
    look();
    // Heights near the target are guesses until it is shown: look again when they are known.
    const timer = window.setTimeout(() => {
      element
        .querySelector(`[data-key="${CSS.escape(jump!.key)}"]`)
        ?.scrollIntoView({ block: "start" });
      look();
    }, 80);
    return () => window.clearTimeout(timer);
  }, [jump]);

  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      stick();
      look();
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [look]);

  return (
    <div class="windowed" ref={scroller} onScroll={look} tabIndex={0} role="feed" aria-label={props.label}>
      <Space height={tops[first] ?? 0} />
      {items.slice(first, last).map((item, index) => (
        <div key={keys[first + index]} data-key={keys[first + index]} ref={watch} class="windowed-item">
          {props.children(item, first + index)}
        </div>
      ))}
      <Space height={tops[keys.length]! - tops[Math.max(first, last)]!} />
      <div data-key="after" ref={watch}>
        {props.after}
      </div>
    </div>
  );
}

/** Empty room in place of what is not shown; its height is set as a property, as the CSP wants. */
function Space({ height }: { height: number }) {
  return <div class="windowed-space" aria-hidden="true" style={{ height: `${height}px` }} />;
}

/** The index of the item at a height; `tops` are the heights at which items begin. */
function indexAt(tops: Float64Array, y: number): number {
  let low = 0;
  let high = tops.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle + 1]! <= y) low = middle + 1;
    else high = middle;
  }
  return Math.min(low, tops.length - 2);
}
