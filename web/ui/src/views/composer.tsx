/** Where one writes. Enter sends, Shift and Enter begin a new line. */

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "../parts/icon";
import type { Session } from "../session";

const MAX_CHARS = 32_000;

/** Drafts outlive a look at another session. */
const drafts = new Map<string, string>();

export function Composer({ session }: { session: Session }) {
  const draft = useSignal(drafts.get(session.id) ?? "");
  const refusal = useSignal<string | null>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const link = session.link.value;
  const running = session.writing.value;

  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) field.current?.focus();
  }, [session]);

  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight, 240)}px`;
  }, [draft.value]);

  useEffect(() => {
    if (link.state === "open") refusal.value = null;
  }, [link.state]);

  function write(text: string): void {
    draft.value = text;
    drafts.set(session.id, text);
  }

  function send(event?: Event): void {
    event?.preventDefault();
    const message = draft.value.trim();
    if (!message) return;
    if (session.asOf.value !== null) session.asOf.value = null;
    if (session.ask(message)) {
      refusal.value = null;
      write("");
    } else {
      refusal.value = "Not sent: there is no connection to the server. Your text is kept here.";
    }
  }

  function onKey(event: KeyboardEvent): void {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
    if (event.key === "Escape" && running !== null) stop();
  }

  function stop(): void {
    if (running === null) return;
    session.cancel(running).catch((error: Error) => (refusal.value = error.message));
  }

  const isOver = [...draft.value].length > MAX_CHARS;
  return (
    <form class="composer" onSubmit={send}>
      {refusal.value && (
        <p class="problem" role="alert">
          {refusal.value}
        </p>
      )}
      {isOver && <p class="problem">A message may have {MAX_CHARS} characters at most.</p>}
      <div class="composer-box">
        <textarea
          ref={field}
          rows={1}
          aria-label="Message"
          placeholder={`Message the ${session.agentName.value}`}
          value={draft.value}
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={onKey}
        />
        {running !== null && (
          <button type="button" class="square round stop" aria-label="Stop the reply" onClick={stop}>
            <Icon name="stop" />
          </button>
        )}
        <button
          type="submit"
          class="primary square round"
          aria-label="Send"
          disabled={!draft.value.trim() || isOver}
        >
          <Icon name="send" />
        </button>
      </div>
    </form>
  );
}
