/** The server as its operator sees it. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { MonitorFeed, type Happening, type Sample } from "../monitor";
import { Chart } from "../parts/chart";
import { DrawerButton } from "../parts/drawer";
import { Time } from "../parts/time";
import { sessionPath } from "../router";

const MEBIBYTE = 1024 ** 2;

export function Monitor() {
  document.title = "Monitor · Lorewire";
  const feed = useMemo(() => new MonitorFeed(), []);
  const now = useSignal(Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => (now.value = Date.now()), 1000);
    return () => {
      window.clearInterval(timer);
      feed.close();
    };
  }, []);
  const samples = feed.samples.value;
  const last = samples.at(-1);
  return (
    <div class="monitor">
      <header class="session-head">
        <DrawerButton />
        <h1 class="session-name">Monitor</h1>
        <div class="head-space" />
        {last && <span class="chip wide-only">up {duration(last.uptime_s)}</span>}
        <LinkNote state={feed.link.value.state} />
      </header>
      {last ? (
        <div class="monitor-body">
          <Charts samples={samples} last={last} now={Math.max(now.value, last.at)} />
          <Views last={last} />
          <Happenings happenings={feed.happenings.value} />
        </div>
      ) : (
        <p class="hint monitor-body">Waiting for the first numbers…</p>
      )}
    </div>
  );
}

function LinkNote({ state }: { state: string }) {
  const isOpen = state === "open";
  return (
    <span class="link-state" data-state={isOpen ? "open" : "waiting"} role="status">
      <span class="dot" /> {isOpen ? "Live" : "Offline, trying again"}
    </span>
  );
}

function Charts({ samples, last, now }: { samples: readonly Sample[]; last: Sample; now: number }) {
  const line = (pick: (sample: Sample) => number) =>
    samples.map((sample) => ({ at: sample.at, value: pick(sample) }));
  const whole = (value: number): string => value.toLocaleString();
  const lag = slowest(last);
  return (
    <section class="charts" aria-label="Charts">
      <Chart
        name="Sessions"
        value={whole(last.active_sessions)}
        points={line((sample) => sample.active_sessions)}
        now={now}
        least={5}
        format={whole}
      />
      <Chart
        name="Connections"
        value={whole(last.active_connections)}
        points={line((sample) => sample.active_connections)}
        now={now}
        least={5}
        format={whole}
      />
      <Chart
        name="Turns running"
        value={whole(last.turns_running)}
        points={line((sample) => sample.turns_running)}
        now={now}
        least={2}
        format={whole}
      />
      <Chart
        name="Events per second"
        value={last.events_per_second.toLocaleString()}
        note={`${whole(last.events_total)} in all`}
        points={line((sample) => sample.events_per_second)}
        now={now}
        least={5}
        format={whole}
      />
      <Chart
        name="Lag of the views"
        value={`${whole(lag.lag)} events`}
        note={lag.lag > 0 ? `${lag.name} is the slowest` : "all caught up"}
        points={line((sample) => slowest(sample).lag)}
        now={now}
        least={10}
        format={whole}
      />
      <Chart
        name="Memory of the process"
        value={`${whole(Math.round(last.rss_bytes / MEBIBYTE))} MiB`}
        points={line((sample) => sample.rss_bytes / MEBIBYTE)}
        now={now}
        least={100}
        format={(value) => `${whole(value)} MiB`}
      />
    </section>
  );
}

function Views({ last }: { last: Sample }) {
  return (
    <section class="card" aria-labelledby="views">
      <h2 id="views">Views of the log</h2>
      <div class="scroll-x">
        <table class="numbers">
          <thead>
            <tr>
              <th scope="col">View</th>
              <th scope="col">Has read to</th>
              <th scope="col">Behind by</th>
            </tr>
          </thead>
          <tbody>
            {Object.entries(last.projections).map(([name, view]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{view.position.toLocaleString()}</td>
                <td>{view.lag.toLocaleString()}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Happenings({ happenings }: { happenings: readonly Happening[] }) {
  return (
    <section class="card" aria-labelledby="happenings">
      <h2 id="happenings">As it happens</h2>
      {happenings.length === 0 && <p class="hint">Nothing since this page was opened.</p>}
      <ul class="happenings">
        {happenings.map((happening) => (
          <li key={happening.key}>
            <Time at={happening.at} />
            <span>{happening.text}</span>
            <a href={sessionPath(happening.sessionId)}>{happening.sessionId.slice(0, 8)}</a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function slowest(sample: Sample): { name: string; lag: number } {
  const views = Object.entries(sample.projections).map(([name, { lag }]) => ({ name, lag }));
  return views.reduce((most, view) => (view.lag > most.lag ? view : most), { name: "", lag: 0 });
}

function duration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
  ];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}
