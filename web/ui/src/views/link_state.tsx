/** How the connection is, in words. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Session } from "../session";

export function LinkState({ session }: { session: Session }) {
  const link = session.link.value;
  const now = useSignal(Date.now());
  useEffect(() => {
    if (link.state !== "waiting") return;
    now.value = Date.now();
    const timer = window.setInterval(() => (now.value = Date.now()), 500);
    return () => window.clearInterval(timer);
  }, [link]);

  if (link.state === "open") {
    return (
      <span class="link-state" data-state="open" role="status">
        <span class="dot" /> Live
      </span>
    );
  }
  if (link.state !== "waiting") {
    return (
      <span class="link-state" data-state="connecting" role="status">
        <span class="dot" /> Connecting…
      </span>
    );
  }
  const left_s = Math.max(0, Math.ceil((link.retryAt - now.value) / 1000));
  return (
    <span class="link-state" data-state="waiting">
      <span class="dot" />
      <span role="status">Offline</span>
      <button type="button" class="small quiet" onClick={() => session.reconnectNow()}>
        {left_s > 0 ? `Try now (${left_s} s)` : "Trying…"}
      </button>
    </span>
  );
}
