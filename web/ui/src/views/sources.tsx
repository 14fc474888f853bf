/** What a reply rests on: the memories and statements that the model was given. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { focusOn, jumpTo } from "../places";
import { Icon } from "../parts/icon";
import type { Fact } from "../protocol";
import type { Session } from "../session";
import { entryText, type Ended, type Turn } from "../turns";

interface SourcesProps {
  session: Session;
  turn: Turn;
  ended: Ended;
}

export function Sources({ session, turn, ended }: SourcesProps) {
  const isOpen = useSignal(false);
  const count = ended.recalled.length + ended.facts.length;
  return (
    <div class="sources">
      <button
        type="button"
        class="small quiet"
        aria-expanded={isOpen.value}
        aria-controls={`sources-${turn.id}`}
        onClick={() => (isOpen.value = !isOpen.value)}
      >
        <Icon name="root" /> What this rests on
        {count > 0 && <span class="count">{count}</span>}
      </button>
      <div id={`sources-${turn.id}`}>
        {isOpen.value && <SourceList session={session} ended={ended} />}
      </div>
    </div>
  );
}

function SourceList({ session, ended }: { session: Session; ended: Ended }) {
  if (ended.recalled.length === 0 && ended.facts.length === 0) {
    return <p class="hint">The model was given the conversation so far, and nothing else.</p>;
  }
  const asOf = ended.graphPosition ?? ended.position;
  return (
    <div class="source-lists">
      {ended.recalled.length > 0 && (
        <section>
          <h2 class="label">Memories</h2>
          <ul>
            {ended.recalled.map((id) => (
              <MemorySource key={id} session={session} entryId={id} />
            ))}
          </ul>
        </section>
      )}
      {ended.facts.length > 0 && (
        <section>
          <h2 class="label">Statements</h2>
          <ul>
            {ended.facts.map((id) => (
              <StatementSource key={id} session={session} statementId={id} asOf={asOf} />
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}

function MemorySource({ session, entryId }: { session: Session; entryId: string }) {
  const entry = entryText(entryId, session.turns.value, session.seed.value);
  if (entry === null) {
    const turnId = entryId.slice(2);
    return (
      <li>
        <button type="button" class="source" onClick={() => void jumpTo(session, turnId)}>
          <span class="source-text">A message further back</span>
        </button>
      </li>
    );
  }
  const kind = { user: "Said by a person", agent: "Said by the agent", seed: "Known from the start" };
  const inner = (
    <>
      <span class="source-kind">{kind[entry.role]}</span>
      <span class="source-text">{entry.text}</span>
    </>
  );
  return (
    <li>
      {entry.turn_id === null ? (
        <div class="source">{inner}</div>
      ) : (
        <button
          type="button"
          class="source"
          onClick={() => void jumpTo(session, entry.turn_id!)}
        >
          {inner}
        </button>
      )}
    </li>
  );
}

function StatementSource(props: { session: Session; statementId: string; asOf: number }) {
  const { session, statementId, asOf } = props;
  const fact = useSignal<Fact | null>(null);
  const edge = session.graph.value.edges.get(statementId);
  const isDrawn = edge !== undefined;

  useEffect(() => {
    if (isDrawn) return;
    // A statement that no longer stands is not in the graph: look as the reply did.
    session.past.facts(asOf).then(
      (facts) => (fact.value = facts.find((one) => one.statement_id === statementId) ?? null),
      () => undefined,
    );
  }, [session, statementId, isDrawn]);

  const told =
    edge !== undefined
      ? {
          text: edge.description,
          quote: edge.metadata?.quote,
          turnId: edge.metadata?.turn_id ?? null,
        }
      : fact.value !== null
        ? { text: fact.value.text, quote: fact.value.quote, turnId: fact.value.turn_id }
        : null;
  if (told === null) {
    return (
      <li>
        <div class="source">
          <span class="source-text">A statement that no longer stands</span>
        </div>
      </li>
    );
  }
  return (
    <li class="source-row">
      <button
        type="button"
        class="source"
        onClick={() =>
          told.turnId === null ? focusOn({ edge: statementId }) : void jumpTo(session, told.turnId)
        }
      >
        <span class="source-text">{told.text}</span>
        {told.quote && <span class="source-quote">“{told.quote}”</span>}
      </button>
      {edge !== undefined && (
        <button
          type="button"
          class="quiet square"
          aria-label="Show in the graph"
          title="Show in the graph"
          onClick={() => focusOn({ edge: statementId })}
        >
          <Icon name="graph" />
        </button>
      )}
    </li>
  );
}
