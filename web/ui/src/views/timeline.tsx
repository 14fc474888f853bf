/** One slider over all that happened: everything beside it shows the session as of that moment. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { momentAt, type Moment } from "../moments";
import { Icon } from "../parts/icon";
import { fullTime } from "../parts/time";
import type { Session } from "../session";

const STEP_MS = 900; // of the play button: long enough to read a line

export function Timeline({ session }: { session: Session }) {
  const isOpen = useSignal(false);
  const problem = useSignal<string | null>(null);
  if (!isOpen.value && session.asOf.value === null) {
    return (
      <footer class="timeline is-closed">
        <button
          type="button"
          class="small quiet"
          onClick={() => {
            isOpen.value = true;
            problem.value = null;
            session.readEverything().catch((error: Error) => (problem.value = error.message));
          }}
        >
          <Icon name="clock" /> Look back in time
        </button>
      </footer>
    );
  }
  return (
    <footer class="timeline" aria-label="Time">
      {problem.value && <p class="problem">{problem.value}</p>}
      <Slider
        session={session}
        onClose={() => {
          isOpen.value = false;
          session.asOf.value = null;
        }}
      />
    </footer>
  );
}

function Slider({ session, onClose }: { session: Session; onClose: () => void }) {
  const isPlaying = useSignal(false);
  const range = useRef<HTMLInputElement>(null);
  const moments = session.moments.value;
  const asOf = session.asOf.value;
  const last = moments.length - 1;
  // One step more than there are moments: the last is now.
  const now = last + 1;
  const index = asOf === null ? now : Math.max(0, momentAt(moments, asOf));
  const moment = asOf === null ? undefined : moments[index];

  useEffect(() => range.current?.focus(), []);

  // What happens while the slider is open belongs on it.
  const turns = session.turns.value.size;
  const graphPosition = session.graph.value.viewPosition;
  useEffect(() => {
    const timer = window.setTimeout(() => void session.readLater().catch(() => undefined), 300);
    return () => window.clearTimeout(timer);
  }, [turns, graphPosition]);

  function go(to: number): void {
    session.asOf.value = to >= now ? null : (moments[Math.max(0, to)]?.position ?? null);
  }

  useEffect(() => {
    if (!isPlaying.value) return;
    const timer = window.setTimeout(() => {
      if (index >= now) isPlaying.value = false;
      else go(index + 1);
    }, STEP_MS);
    return () => window.clearTimeout(timer);
  }, [isPlaying.value, index, now]);

  function play(): void {
    if (!isPlaying.value && asOf === null) go(0);
    isPlaying.value = !isPlaying.value;
  }

  const text = moment ? `${moment.label}, ${fullTime(moment.at)}` : "Now";
  return (
    <div class="slider">
      <div class="slider-buttons">
        <button
          type="button"
          class="quiet square"
          aria-label={isPlaying.value ? "Pause" : "Play"}
          onClick={play}
        >
          <Icon name={isPlaying.value ? "pause" : "play"} />
        </button>
        <button
          type="button"
          class="quiet square"
          aria-label="One step back"
          disabled={index <= 0}
          onClick={() => go(index - 1)}
        >
          <Icon name="back" />
        </button>
        <button
          type="button"
          class="quiet square"
          aria-label="One step forward"
          disabled={index >= now}
          onClick={() => go(index + 1)}
        >
          <Icon name="forward" />
        </button>
      </div>
      <div class="slider-track">
        <Marks moments={moments} steps={now} />
        <input
          ref={range}
          type="range"
          min={0}
          max={now}
          value={index}
          aria-label="Moment"
          aria-valuetext={text}
          onInput={(event) => {
            isPlaying.value = false;
            go(Number(event.currentTarget.value));
          }}
        />
      </div>
      <p class="slider-text">
        {moment ? (
          <>
            <strong>{moment.label}</strong>
            <span>
              {fullTime(moment.at)} · position {moment.position}
            </span>
          </>
        ) : (
          <>
            <strong>Now</strong>
            <span>
              {session.isHistoryWhole.value ? `${moments.length} moments` : "Reading the log…"}
            </span>
          </>
        )}
      </p>
      <button type="button" class="small" onClick={onClose}>
        Back to now
      </button>
    </div>
  );
}

/** A tick for each moment; where there are too many, for some. */
function Marks({ moments, steps }: { moments: readonly Moment[]; steps: number }) {
  const every = Math.ceil(moments.length / 240);
  return (
    <svg class="marks" viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">
      {moments.map((moment, index) =>
        index % every === 0 ? (
          <line
            key={moment.position}
            class={`mark mark-${moment.kind}`}
            x1={(index / Math.max(1, steps)) * 1000}
            x2={(index / Math.max(1, steps)) * 1000}
            y1={moment.kind === "learned" || moment.kind === "corrected" ? 0 : 5}
            y2="14"
          />
        ) : null,
      )}
    </svg>
  );
}
