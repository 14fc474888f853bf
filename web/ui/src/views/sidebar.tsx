/** The list of sessions, and what concerns the reader: name, appearance. */

import { useSignal } from "@preact/signals";
import { Icon, Logo } from "../parts/icon";
import { Time } from "../parts/time";
import type { SessionSummary } from "../protocol";
import { route, sessionPath } from "../router";
import {
  sessionError,
  sessionList,
  sessionQuery,
  sessionTotal,
  showMoreSessions,
} from "../sessions";
import { theme, userId } from "../settings";
import { NewSessionDialog } from "./new_session";

export function Sidebar() {
  const isOpening = useSignal(false);
  return (
    <aside class="sidebar" aria-label="Sessions">
      <div class="brand">
        <a href="/" class="brand-link" aria-label="Lorewire, home">
          <Logo />
          <span class="wordmark">Lorewire</span>
        </a>
      </div>
      <button type="button" class="primary wide" onClick={() => (isOpening.value = true)}>
        <Icon name="plus" /> New session
      </button>
      <SessionSearch />
      <SessionList />
      <div class="sidebar-foot">
        <a
          href="/monitor"
          class="foot-link"
          aria-current={route.value.view === "monitor" ? "page" : undefined}
        >
          <Icon name="pulse" /> Monitor
        </a>
        <Reader />
      </div>
      {isOpening.value && <NewSessionDialog onClose={() => (isOpening.value = false)} />}
    </aside>
  );
}

function SessionSearch() {
  return (
    <label class="field-with-icon">
      <Icon name="search" />
      <input
        type="search"
        placeholder="Find a session"
        aria-label="Find a session"
        value={sessionQuery.value}
        onInput={(event) => (sessionQuery.value = event.currentTarget.value)}
      />
    </label>
  );
}

export function SessionList() {
  const sessions = sessionList.value;
  if (sessions === null) {
    return <p class="hint list-hint">{sessionError.value ?? "Reading the sessions…"}</p>;
  }
  return (
    <nav class="session-list" aria-label="Sessions">
      {sessionError.value && <p class="hint list-hint">{sessionError.value}</p>}
      {sessions.length === 0 && (
        <p class="hint list-hint">
          {sessionQuery.value ? "No session has that in its title." : "No sessions yet."}
        </p>
      )}
      <ul>
        {sessions.map((session) => (
          <SessionItem key={session.session_id} session={session} />
        ))}
      </ul>
      {sessions.length < sessionTotal.value && (
        <button type="button" class="quiet wide" onClick={showMoreSessions}>
          Show more of {sessionTotal.value}
        </button>
      )}
    </nav>
  );
}

function SessionItem({ session }: { session: SessionSummary }) {
  const at = route.value;
  const isCurrent = at.view === "session" && at.id === session.session_id;
  return (
    <li>
      <a
        class="session-item"
        href={sessionPath(session.session_id)}
        aria-current={isCurrent ? "page" : undefined}
      >
        <span class="session-title">{session.title || "Untitled"}</span>
        <span class="session-meta">
          {session.config.domain.replace(/_/g, " ")} · <Time at={session.last_activity} />
        </span>
      </a>
    </li>
  );
}

function Reader() {
  return (
    <div class="reader">
      <label class="reader-name">
        <span>You are</span>
        <input
          type="text"
          maxLength={128}
          value={userId.value}
          onChange={(event) => {
            userId.value = event.currentTarget.value.trim() || "anonymous";
            event.currentTarget.value = userId.value;
          }}
        />
      </label>
      <label class="reader-theme">
        <span class="visually-hidden">Appearance</span>
        <select
          value={theme.value}
          onChange={(event) => (theme.value = event.currentTarget.value)}
        >
          <option value="system">Auto</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </label>
    </div>
  );
}
