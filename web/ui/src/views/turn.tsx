/** One turn: what was asked, what was replied, and what the reply rests on. */

import { Icon } from "../parts/icon";
import { Markdown } from "../parts/markdown";
import { Time } from "../parts/time";
import type { Session } from "../session";
import type { Ended, Turn } from "../turns";
import { Sources } from "./sources";

interface TurnProps {
  session: Session;
  turn: Turn;
  number: number;
  total: number;
  isMarked: boolean;
}

export function TurnView({ session, turn, number, total, isMarked }: TurnProps) {
  const asked = turn.asked!;
  const speaker = asked.userId;
  const isMine = speaker === session.userId;
  return (
    <article
      class={`turn ${isMarked ? "is-marked" : ""}`}
      id={`turn-${turn.id}`}
      aria-posinset={number}
      aria-setsize={total}
      aria-label={`${speaker}: ${asked.message.slice(0, 80)}`}
      tabIndex={-1}
    >
      <div class={`said ${isMine ? "is-mine" : ""}`}>
        <p class="byline">
          <span class="speaker">{isMine ? "You" : speaker}</span>
          <Time at={asked.at} />
        </p>
        <div class="bubble">{asked.message}</div>
      </div>
      <Reply session={session} turn={turn} />
    </article>
  );
}

function Reply({ session, turn }: { session: Session; turn: Turn }) {
  const { ended } = turn;
  const isPast = session.asOf.value !== null;
  const isWriting = !isPast && session.writing.value === turn.id;
  const text = ended?.text ?? turn.streamed;
  return (
    <div class="reply" data-state={ended?.how ?? (isWriting ? "writing" : "waiting")}>
      <p class="byline">
        <span class="speaker is-agent">{session.agentName.value}</span>
        {ended && <Time at={ended.at} />}
      </p>
      {text && <Markdown text={text} />}
      {!ended && (isWriting ? <Typing /> : <p class="hint">{isPast ? "No reply yet." : "Waiting for its turn…"}</p>)}
      {ended && <Outcome session={session} turn={turn} ended={ended} />}
    </div>
  );
}

function Typing() {
  return (
    <p class="typing" aria-label="The agent is writing">
      <span />
      <span />
      <span />
    </p>
  );
}

function Outcome({ session, turn, ended }: { session: Session; turn: Turn; ended: Ended }) {
  if (ended.how === "completed") return <Sources session={session} turn={turn} ended={ended} />;
  const isFailed = ended.how === "failed";
  return (
    <div class={`outcome ${isFailed ? "is-failed" : ""}`}>
      <p>{isFailed ? (ended.error ?? "The reply failed.") : "Stopped."}</p>
      <button
        type="button"
        class="small"
        disabled={!session.isOnline}
        onClick={() => session.ask(turn.asked!.message)}
      >
        <Icon name="retry" /> Ask again
      </button>
    </div>
  );
}
