/** Opening a session: what it is about, and what it is called. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { listDomains, openSession } from "../api";
import { Dialog } from "../parts/dialog";
import type { Domain } from "../protocol";
import { navigate, sessionPath } from "../router";
import { refreshSessions } from "../sessions";
import { userId } from "../settings";

export function NewSessionDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="New session" onClose={onClose}>
      <NewSessionForm onOpened={onClose} />
    </Dialog>
  );
}

export function NewSessionForm({ onOpened }: { onOpened?: () => void }) {
  const domains = useSignal<Domain[] | null>(null);
  const chosen = useSignal("");
  const title = useSignal("");
  const problem = useSignal<string | null>(null);
  const isBusy = useSignal(false);

  useEffect(() => {
    listDomains().then(
      (found) => {
        domains.value = found;
        chosen.value ||= found[0]?.name ?? "";
      },
      (error: Error) => (problem.value = error.message),
    );
  }, []);

  async function open(event: Event): Promise<void> {
    event.preventDefault();
    if (isBusy.value) return;
    isBusy.value = true;
    problem.value = null;
    try {
      const opened = await openSession(userId.value, title.value.trim(), chosen.value);
      refreshSessions();
      onOpened?.();
      navigate(sessionPath(opened.session_id));
    } catch (error) {
      problem.value = (error as Error).message;
    } finally {
      isBusy.value = false;
    }
  }

  return (
    <form class="new-session" onSubmit={open}>
      <fieldset class="domains">
        <legend>What is it about?</legend>
        {domains.value?.map((domain) => (
          <label key={domain.name} class="domain">
            <input
              type="radio"
              name="domain"
              value={domain.name}
              checked={chosen.value === domain.name}
              onChange={() => (chosen.value = domain.name)}
            />
            <span class="domain-text">
              <strong>{domain.title}</strong>
              <span>{domain.description}</span>
            </span>
          </label>
        ))}
        {domains.value === null && problem.value === null && <p class="hint">Reading…</p>}
      </fieldset>
      <label class="field">
        <span>Title</span>
        <input
          type="text"
          maxLength={200}
          placeholder="You can leave this out"
          value={title.value}
          onInput={(event) => (title.value = event.currentTarget.value)}
        />
      </label>
      {problem.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      <button type="submit" class="primary" disabled={!chosen.value || isBusy.value}>
        Open session
      </button>
    </form>
  );
}
