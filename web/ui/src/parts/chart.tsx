/** A line over the last minutes, drawn as SVG. */

const LEAST_MS = 60_000; // a line of a few seconds shall not look like a history
const WIDTH = 600;
const HEIGHT = 120;

export interface Point {
  at: number;
  value: number;
}

interface ChartProps {
  name: string;
  value: string; // the newest, as people read it
  note?: string;
  points: readonly Point[];
  now: number;
  /** The least that the whole height stands for: a quiet line shall not look like mountains. */
  least: number;
  format: (value: number) => string;
}

export function Chart({ name, value, note, points, now, least, format }: ChartProps) {
  const top = ceiling(Math.max(least, ...points.map((point) => point.value)));
  const span_ms = Math.max(LEAST_MS, now - (points[0]?.at ?? now));
  const span = span_ms < 120_000 ? `${Math.round(span_ms / 1000)} s` : `${Math.round(span_ms / 60_000)} min`;
  const x = (at: number): number => WIDTH - ((now - at) / span_ms) * WIDTH;
  const y = (amount: number): number => HEIGHT - 4 - (amount / top) * (HEIGHT - 12);
  // Values hold until the next one comes: steps, not slopes.
  const steps = points.map((point, index) => {
    const next = points[index + 1];
    const until = next ? x(next.at) : WIDTH;
    return `${x(point.at).toFixed(1)},${y(point.value).toFixed(1)} ${until.toFixed(1)},${y(point.value).toFixed(1)}`;
  });
  const line = steps.join(" ");
  const first = points[0];
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-name">{name}</span>
        <span class="chart-value">{value}</span>
        {note && <span class="chart-note">{note}</span>}
      </figcaption>
      <div class="chart-plot">
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${name} in the last ${span}, now ${value}`}
        >
          {[0.25, 0.5, 0.75].map((part) => (
            <line key={part} class="chart-grid" x1="0" x2={WIDTH} y1={y(top * part)} y2={y(top * part)} />
          ))}
          {first && (
            <>
              <polygon class="chart-area" points={`${x(first.at)},${HEIGHT} ${line} ${WIDTH},${HEIGHT}`} />
              <polyline class="chart-line" points={line} />
            </>
          )}
        </svg>
        <span class="chart-top" aria-hidden="true">
          {format(top)}
        </span>
      </div>
      <div class="chart-times" aria-hidden="true">
        <span>{span} ago</span>
        <span>now</span>
      </div>
    </figure>
  );
}

/** The next round number: 1, 2 or 5 times a power of ten. */
function ceiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 5, 10].find((step) => step * power >= value) ?? 10;
  return factor * power;
}
