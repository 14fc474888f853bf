/** The frame: sessions on the left, what the address names beside them. */

import { useSignalEffect } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { isDrawerOpen } from "./parts/drawer";
import { route } from "./router";
import { Session } from "./session";
import { refreshSessions, startSessionList } from "./sessions";
import { userId } from "./settings";
import { Home } from "./views/home";
import { Monitor } from "./views/monitor";
import { SessionView } from "./views/session_view";
import { Sidebar } from "./views/sidebar";

export function App() {
  useEffect(startSessionList, []);
  useSignalEffect(() => {
    void route.value;
    isDrawerOpen.value = false;
  });
  return (
    <div class={`app ${isDrawerOpen.value ? "has-drawer" : ""}`}>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <Sidebar />
      <button
        type="button"
        class="drawer-shade"
        aria-label="Close the list of sessions"
        tabIndex={isDrawerOpen.value ? 0 : -1}
        onClick={() => (isDrawerOpen.value = false)}
      />
      <main id="main" tabIndex={-1}>
        <Routed />
      </main>
    </div>
  );
}

function Routed() {
  const at = route.value;
  switch (at.view) {
    case "home":
      return <Home />;
    case "monitor":
      return <Monitor />;
    case "session":
      return <OpenSession key={`${at.id} ${userId.value}`} id={at.id} />;
  }
}

/** A session that is connected to as long as it is shown. */
function OpenSession({ id }: { id: string }) {
  const session = useMemo(() => new Session(id, userId.value), [id]);
  useEffect(() => () => session.close(), [session]);
  useSignalEffect(() => {
    void session.title.value;
    void session.isDeleted.value;
    refreshSessions();
  });
  return <SessionView session={session} />;
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
