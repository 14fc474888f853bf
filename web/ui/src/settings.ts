/** What this browser remembers about its reader. */

import { effect, signal, type Signal } from "@preact/signals";

export const userId = remembered("lorewire.user", "anonymous");
export const theme = remembered("lorewire.theme", "system");
export const panel = remembered("lorewire.panel", "graph");

export function applyTheme(): void {
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
  });
}

function remembered(key: string, byDefault: string): Signal<string> {
  const value = signal(read(key) ?? byDefault);
  effect(() => {
    try {
      localStorage.setItem(key, value.value);
    } catch {
      // A browser may keep nothing: then the setting lasts as long as the page.
    }
  });
  return value;
}

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
