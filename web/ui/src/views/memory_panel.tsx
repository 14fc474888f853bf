/** What the session remembers: the newest of it, or what a search finds while one types. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { readMemory, searchMemory } from "../api";
import { Icon } from "../parts/icon";
import { Time } from "../parts/time";
import { jumpTo } from "../places";
import type { Entry, Hit } from "../protocol";
import type { Session } from "../session";

const PAUSE_MS = 120; // between the last key and the search
const SHOWN = 40;
const MARKUP = new Set("*`"); // of Markdown: in an excerpt it only stands in the way

interface Found {
  entries: (Entry | Hit)[];
  total: number;
  took_ms: number | null;
}

export function MemoryPanel({ session }: { session: Session }) {
  const query = useSignal("");
  const kind = useSignal<"hybrid" | "semantic" | "keyword">("hybrid");
  const role = useSignal("");
  const found = useSignal<Found | null>(null);
  const problem = useSignal<string | null>(null);
  const asOf = session.asOf.value;
  const changes = session.memoryChanges.value;

  useEffect(() => {
    const reading = new AbortController();
    const timer = window.setTimeout(
      () => {
        read(session.id, query.value.trim(), kind.value, role.value, asOf, reading.signal).then(
          (result) => {
            found.value = result;
            problem.value = null;
          },
          (error: Error) => {
            if (error.name !== "AbortError") problem.value = error.message;
          },
        );
      },
      query.value ? PAUSE_MS : 0,
    );
    return () => {
      window.clearTimeout(timer);
      reading.abort();
    };
  }, [session, query.value, kind.value, role.value, asOf, changes]);

  const result = found.value;
  return (
    <section class="memory" aria-label="Memory">
      <div class="panel-bar">
        <label class="field-with-icon grow">
          <Icon name="search" />
          <input
            type="search"
            placeholder="Search what was said"
            aria-label="Search memory"
            maxLength={2000}
            value={query.value}
            onInput={(event) => (query.value = event.currentTarget.value)}
          />
        </label>
        <label class="select">
          <span class="visually-hidden">How to search</span>
          <select
            value={kind.value}
            onChange={(event) => (kind.value = event.currentTarget.value as typeof kind.value)}
          >
            <option value="hybrid">Words and meaning</option>
            <option value="keyword">Words</option>
            <option value="semantic">Meaning</option>
          </select>
        </label>
        <label class="select">
          <span class="visually-hidden">Said by</span>
          <select value={role.value} onChange={(event) => (role.value = event.currentTarget.value)}>
            <option value="">Everybody</option>
            <option value="user">People</option>
            <option value="agent">The agent</option>
            <option value="seed">Known from the start</option>
          </select>
        </label>
      </div>
      <p class="panel-note" role="status">
        {problem.value ?? summary(result, query.value.trim())}
      </p>
      <ol class="hits">
        {result?.entries.map((entry) => (
          <HitItem key={entry.entry_id} session={session} entry={entry} />
        ))}
      </ol>
    </section>
  );
}

function HitItem({ session, entry }: { session: Session; entry: Entry | Hit }) {
  const content = (
    <>
      <span class="hit-head">
        <span class={`speaker ${entry.role === "agent" ? "is-agent" : ""}`}>
          {entry.role === "seed" ? "Known from the start" : entry.speaker}
        </span>
        <Time at={entry.timestamp} />
      </span>
      <span class="hit-text">
        {"highlights" in entry ? <Highlighted hit={entry} /> : shortened(entry.text)}
      </span>
      {"ranks" in entry && <Ranks hit={entry} />}
    </>
  );
  return (
    <li>
      {entry.turn_id === null ? (
        <div class="hit">{content}</div>
      ) : (
        <button type="button" class="hit" onClick={() => void jumpTo(session, entry.turn_id!)}>
          {content}
        </button>
      )}
    </li>
  );
}

function Ranks({ hit }: { hit: Hit }) {
  const { keyword, semantic } = hit.ranks;
  return (
    <span class="ranks">
      {keyword !== null && (
        <span class="rank" title="Its place among those with these words">
          words #{keyword}
        </span>
      )}
      {semantic !== null && (
        <span class="rank" title="Its place among those that mean something like it">
          meaning #{semantic}
        </span>
      )}
      <span class="score" title="Relevance, 0 to 1">
        {hit.relevance_score.toFixed(2)}
      </span>
    </span>
  );
}

/** The text with what matched marked; the places count code points, as the protocol says. */
function Highlighted({ hit }: { hit: Hit }) {
  const points = [...hit.text].map((point) => (MARKUP.has(point) ? "" : point));
  const first = hit.highlights[0]?.start ?? 0;
  const from = first > 160 ? first - 80 : 0;
  const parts = [];
  let at = from;
  for (const { start, end } of hit.highlights) {
    if (start < at || start > from + 400) continue;
    parts.push(points.slice(at, start).join(""));
    parts.push(<mark key={start}>{points.slice(start, end).join("")}</mark>);
    at = end;
  }
  const until = Math.max(at, from + 400);
  parts.push(points.slice(at, until).join(""));
  return (
    <>
      {from > 0 && "… "}
      {parts}
      {until < points.length && " …"}
    </>
  );
}

function shortened(text: string): string {
  const points = [...text].filter((point) => !MARKUP.has(point));
  return points.length > 400 ? `${points.slice(0, 400).join("")} …` : text;
}

function summary(found: Found | null, query: string): string {
  if (found === null) return "Reading…";
  if (!query) return `${found.total} remembered, newest first`;
  if (found.total === 0) return "Nothing like that was said.";
  const took = found.took_ms === null ? "" : ` in ${found.took_ms.toFixed(1)} ms`;
  return `${found.total} found${took}, best first`;
}

async function read(
  id: string,
  query: string,
  type: "hybrid" | "semantic" | "keyword",
  role: string,
  asOf: number | null,
  signal: AbortSignal,
): Promise<Found> {
  if (query) {
    const options = { type, role: role || undefined, asOf, signal, limit: SHOWN };
    const { results, total, took_ms } = await searchMemory(id, query, options);
    return { entries: results, total, took_ms };
  }
  const { data, total } = await readMemory(id, "conversations", { limit: SHOWN, asOf, signal });
  const entries = role ? data.filter((entry) => entry.role === role) : data;
  return { entries, total: role ? entries.length : total, took_ms: null };
}
