/** The list of sessions as a drawer, where there is no room beside the content. */

import { signal } from "@preact/signals";
import { Icon } from "./icon";

export const isDrawerOpen = signal(false);

export function DrawerButton() {
  return (
    <button
      type="button"
      class="quiet square drawer-button"
      aria-label="Sessions"
      aria-expanded={isDrawerOpen.value}
      onClick={() => (isDrawerOpen.value = !isDrawerOpen.value)}
    >
      <Icon name="menu" />
    </button>
  );
}
