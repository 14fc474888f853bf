/** The conversation: turns as they come, or as they were. */

import { useSignal } from "@preact/signals";
import { useCallback } from "preact/hooks";
import { Icon } from "../parts/icon";
import { Windowed } from "../parts/windowed";
import { jump, marked } from "../places";
import type { Pending, Session } from "../session";
import type { Turn } from "../turns";
import { Composer } from "./composer";
import { TurnView } from "./turn";

export function Conversation({ session }: { session: Session }) {
  const isAtEnd = useSignal(true);
  const turns = session.shown.value;
  const readEarlier = useCallback(() => void session.readEarlier().catch(() => false), [session]);
  const last = turns.at(-1);
  return (
    <section class="conversation" aria-label="Conversation">
      <div class="conversation-scroll">
        {turns.length === 0 && session.pending.value.length === 0 && <Beginning session={session} />}
        <Windowed<Turn>
          items={turns}
          keyOf={(turn) => turn.id}
          label="Conversation"
          jump={jump.value}
          onNearStart={readEarlier}
          onAtEnd={(value) => (isAtEnd.value = value)}
          after={<PendingList session={session} />}
        >
          {(turn, index) => (
            <TurnView
              session={session}
              turn={turn}
              number={index + 1}
              total={session.isHistoryWhole.value ? turns.length : -1}
              isMarked={marked.value === turn.id}
            />
          )}
        </Windowed>
        {!isAtEnd.value && last && (
          <button
            type="button"
            class="square round to-end"
            aria-label="Go to the newest message"
            onClick={() => {
              marked.value = null;
              jump.value = { key: last.id };
            }}
          >
            <Icon name="down" />
          </button>
        )}
      </div>
      <Announcer session={session} last={last} />
      <Composer session={session} />
    </section>
  );
}

function Beginning({ session }: { session: Session }) {
  if (session.loadProblem.value !== null) {
    return (
      <div class="beginning" role="alert">
        <p>The conversation could not be read: {session.loadProblem.value}</p>
        <button type="button" class="small" onClick={() => session.readAgain()}>
          <Icon name="retry" /> Try again
        </button>
      </div>
    );
  }
  if (session.isLoading.value) return <p class="beginning hint">Reading the conversation…</p>;
  return (
    <div class="beginning">
      <p>Nothing has been said{session.asOf.value === null ? "" : " by then"}.</p>
      {session.seed.value.length > 0 && (
        <>
          <p class="hint">What the {session.agentName.value} knows from the start:</p>
          <ul class="seed">
            {session.seed.value.map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function PendingList({ session }: { session: Session }) {
  if (session.asOf.value !== null) return null;
  return (
    <>
      {session.pending.value.map((pending) => (
        <PendingQuery key={pending.id} session={session} pending={pending} />
      ))}
    </>
  );
}

function PendingQuery({ session, pending }: { session: Session; pending: Pending }) {
  function again(): void {
    if (session.ask(pending.message)) session.forget(pending.id);
  }
  return (
    <div class="turn">
      <div class="said is-mine is-pending">
        <p class="byline">
          <span class="speaker">You</span> {pending.refused ? "not accepted" : "sending…"}
        </p>
        <div class="bubble">{pending.message}</div>
        {pending.refused && (
          <div class="outcome is-failed">
            <p role="alert">{pending.refused}</p>
            <button type="button" class="small" onClick={again}>
              <Icon name="retry" /> Try again
            </button>
            <button type="button" class="small quiet" onClick={() => session.forget(pending.id)}>
              Remove
            </button>
          </div>
        )}
      </div>
    </div>
  );
}

/** Says to screen readers what happens, once, and not piece by piece. */
function Announcer({ session, last }: { session: Session; last: Turn | undefined }) {
  const said =
    session.writing.value !== null
      ? `The ${session.agentName.value} is writing.`
      : last?.ended
        ? `${session.agentName.value}: ${last.ended.text.slice(0, 400)}`
        : "";
  return (
    <p class="visually-hidden" role="status">
      {session.asOf.value === null ? said : ""}
    </p>
  );
}
