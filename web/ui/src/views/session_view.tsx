/** One session: conversation, what is remembered and known, and time. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { changeSession, deleteSession } from "../api";
import { Dialog } from "../parts/dialog";
import { DrawerButton } from "../parts/drawer";
import { Icon } from "../parts/icon";
import { graphPlace, jump, jumpTo, marked, narrowTab } from "../places";
import { navigate } from "../router";
import type { Session } from "../session";
import { refreshSessions } from "../sessions";
import { panel } from "../settings";
import { Conversation } from "./conversation";
import { GraphPanel } from "./graph_panel";
import { LinkState } from "./link_state";
import { MemoryPanel } from "./memory_panel";
import { Timeline } from "./timeline";

export function SessionView({ session }: { session: Session }) {
  useSignalEffect(() => {
    document.title = `${session.title.value || "Untitled"} · Lorewire`;
  });
  useEffect(() => {
    marked.value = jump.value = graphPlace.value = null;
    narrowTab.value = "talk";
    const turn = /^#turn-(.+)$/.exec(location.hash);
    if (turn) void jumpTo(session, turn[1]!);
  }, [session]);

  const link = session.link.value;
  if (link.state === "closed" && link.reason) return <Gone reason={link.reason} />;
  if (session.isDeleted.value) return <Gone reason="This session was deleted." />;
  return (
    <div class="session" data-tab={narrowTab.value} data-past={session.asOf.value !== null}>
      <Head session={session} />
      <div class="session-body">
        <Conversation session={session} />
        <Panel session={session} />
      </div>
      <Timeline session={session} />
    </div>
  );
}

function Head({ session }: { session: Session }) {
  const isRenaming = useSignal(false);
  const isDeleting = useSignal(false);
  return (
    <header class="session-head">
      <DrawerButton />
      <h1 class="session-name" title={session.title.value ?? ""}>
        {session.title.value || "Untitled"}
      </h1>
      <Tools
        onRename={() => (isRenaming.value = true)}
        onDelete={() => (isDeleting.value = true)}
      />
      <div class="head-space" />
      <Participants session={session} />
      <LinkState session={session} />
      <NarrowTabs />
      {isRenaming.value && (
        <RenameDialog session={session} onClose={() => (isRenaming.value = false)} />
      )}
      {isDeleting.value && (
        <DeleteDialog session={session} onClose={() => (isDeleting.value = false)} />
      )}
    </header>
  );
}

function Tools({ onRename, onDelete }: { onRename: () => void; onDelete: () => void }) {
  return (
    <div class="head-tools">
      <button type="button" class="quiet square" aria-label="Rename" title="Rename" onClick={onRename}>
        <Icon name="edit" />
      </button>
      <button type="button" class="quiet square" aria-label="Delete" title="Delete" onClick={onDelete}>
        <Icon name="trash" />
      </button>
    </div>
  );
}

function Participants({ session }: { session: Session }) {
  const count = session.connections.value;
  const others = [...new Set(session.present.value.values())];
  const names = [`${session.userId} (you)`, ...others.filter((name) => name !== session.userId)];
  if (count < 2) return null;
  return (
    <span class="chip" title={names.join(", ")}>
      <Icon name="people" />
      <span>
        {count} <span class="wide-only">here</span>
      </span>
    </span>
  );
}

function NarrowTabs() {
  const choose = (tab: "talk" | "panel", name?: string) => () => {
    narrowTab.value = tab;
    if (name) panel.value = name;
  };
  const at = narrowTab.value === "talk" ? "talk" : panel.value;
  return (
    <div class="narrow-tabs" role="group" aria-label="What to show">
      <button type="button" aria-pressed={at === "talk"} onClick={choose("talk")}>
        <Icon name="talk" /> Talk
      </button>
      <button type="button" aria-pressed={at === "graph"} onClick={choose("panel", "graph")}>
        <Icon name="graph" /> Graph
      </button>
      <button type="button" aria-pressed={at === "memory"} onClick={choose("panel", "memory")}>
        <Icon name="memory" /> Memory
      </button>
    </div>
  );
}

function Panel({ session }: { session: Session }) {
  const isGraph = panel.value !== "memory";
  return (
    <aside class="panel" aria-label="Knowledge and memory">
      <div class="panel-tabs" role="group" aria-label="Panel">
        <button type="button" aria-pressed={isGraph} onClick={() => (panel.value = "graph")}>
          <Icon name="graph" /> Graph
        </button>
        <button type="button" aria-pressed={!isGraph} onClick={() => (panel.value = "memory")}>
          <Icon name="memory" /> Memory
        </button>
      </div>
      {isGraph ? <GraphPanel session={session} /> : <MemoryPanel session={session} />}
    </aside>
  );
}

function RenameDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const title = useSignal(session.title.value ?? "");
  const problem = useSignal<string | null>(null);
  async function rename(event: Event): Promise<void> {
    event.preventDefault();
    try {
      const changed = await changeSession(session.id, session.userId, {
        title: title.value.trim(),
      });
      session.title.value = changed.title;
      refreshSessions();
      onClose();
    } catch (error) {
      problem.value = (error as Error).message;
    }
  }
  return (
    <Dialog title="Rename the session" onClose={onClose}>
      <form onSubmit={rename}>
        <label class="field">
          <span>Title</span>
          <input
            type="text"
            maxLength={200}
            autofocus
            value={title.value}
            onInput={(event) => (title.value = event.currentTarget.value)}
          />
        </label>
        {problem.value && (
          <p class="problem" role="alert">
            {problem.value}
          </p>
        )}
        <button type="submit" class="primary" disabled={!title.value.trim()}>
          Rename
        </button>
      </form>
    </Dialog>
  );
}

function DeleteDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const problem = useSignal<string | null>(null);
  async function remove(): Promise<void> {
    try {
      await deleteSession(session.id, session.userId);
      refreshSessions();
      navigate("/");
    } catch (error) {
      problem.value = (error as Error).message;
    }
  }
  return (
    <Dialog title="Delete the session?" onClose={onClose}>
      <p>
        “{session.title.value || "Untitled"}” disappears for everybody, and connections to it end.
        This cannot be undone here.
      </p>
      {problem.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      <div class="dialog-actions">
        <button type="button" onClick={onClose}>
          Keep it
        </button>
        <button type="button" class="danger" onClick={remove}>
          Delete
        </button>
      </div>
    </Dialog>
  );
}

function Gone({ reason }: { reason: string }) {
  return (
    <div class="gone">
      <DrawerButton />
      <h1>{reason}</h1>
      <p>
        <a href="/">Open another one</a>
      </p>
    </div>
  );
}
