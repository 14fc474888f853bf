/** Which view the address names. Links stay links: they can be opened in another tab. */

import { computed, signal } from "@preact/signals";

export type Route =
  | { view: "home" }
  | { view: "session"; id: string }
  | { view: "monitor" };

const path = signal(location.pathname);

export const route = computed<Route>(() => parse(path.value));

export function navigate(to: string): void {
  if (to !== location.pathname) history.pushState(null, "", to);
  path.value = new URL(to, location.origin).pathname;
}

export function sessionPath(id: string): string {
  return `/s/${encodeURIComponent(id)}`;
}

export function startRouter(): void {
  addEventListener("popstate", () => (path.value = location.pathname));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest("a");
    if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download")) {
      return;
    }
    if (link.pathname.startsWith("/api/")) return;
    event.preventDefault();
    navigate(link.pathname);
  });
}

function parse(pathname: string): Route {
  if (pathname === "/monitor") return { view: "monitor" };
  const session = /^\/s\/([^/]+)$/.exec(pathname);
  if (session) return { view: "session", id: decodeURIComponent(session[1]!) };
  return { view: "home" };
}
