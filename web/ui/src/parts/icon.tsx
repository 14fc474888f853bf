/** The icons, drawn on a grid of 24 with one stroke width. */

const PATHS = {
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5",
  send: "M12 20V5M5.5 11 12 4.5 18.5 11",
  stop: "M7 7h10v10H7z",
  retry: "M4.5 12a7.5 7.5 0 1 1 2.4 5.5M4.5 19v-5h5",
  edit: "M4.5 19.5l1-4L16 5l3 3L8.5 18.5zM14 7l3 3",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.2 10.5v6M13.8 10.5v6",
  close: "M6 6l12 12M18 6 6 18",
  play: "M8 5.5v13l11-6.5z",
  pause: "M8.5 5.5v13M15.5 5.5v13",
  back: "M15 5.5 8.5 12l6.5 6.5",
  forward: "M9 5.5l6.5 6.5L9 18.5",
  down: "M5.5 9l6.5 6.5L18.5 9",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.3l3 1.9",
  graph: "M6.5 9a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM17.5 12a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM9.5 20a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM9 7l6 2M7.1 9l1.7 6.1M15.8 11.4 11.2 15.8",
  memory: "M5 5.5h14M5 10h14M5 14.5h9M5 19h6",
  pulse: "M3 12h4l2.5-6.5 4.5 13L16.5 12H21",
  people: "M9 11a3.2 3.2 0 1 0 0-6.4A3.2 3.2 0 0 0 9 11zM3 19.5c.5-3.4 2.9-5.3 6-5.3s5.500 1.900 6 5.300M15.500 5a3 3 0 0 1 0 5.700M17.300 14.600c2 .700 3.300 2.400 3.700 4.900",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v1.500M12 19.500V21M3 12h1.500M19.500 12H21M5.600 5.600l1.100 1.100M17.300 17.300l1.100 1.100M5.600 18.400l1.100-1.100M17.300 6.700l1.100-1.100",
  root: "M12 4v9M12 13c0 3-2.500 4-5 6.500M12 13c0 3 2.500 4 5 6.500M12 13v7",
  focus: "M4.500 9V4.500H9M15 4.500h4.500V9M19.500 15v4.500H15M9 19.500H4.500V15M12 10.500a1.500 1.500 0 1 0 0 3 1.500 1.500 0 0 0 0-3z",
  download: "M12 4.500V15M7 10.500l5 5 5-5M5 19.500h14",
  menu: "M4.500 7h15M4.500 12h15M4.500 17h15",
  list: "M9 6.500h11M9 12h11M9 17.500h11M4.500 6.500h.01M4.500 12h.01M4.500 17.500h.01",
  talk: "M4.500 5.500h15v10.500H11l-4 3.500V16H4.500z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path class="logo-stem" d="M9 7v14a4 4 0 0 0 4 4h10" />
      <path class="logo-wire" d="M9 14c6 0 6-5 11-5" />
      <circle class="logo-stem-end" cx="9" cy="7" r="2.8" />
      <circle class="logo-spark" cx="22" cy="9" r="2.8" />
      <circle class="logo-wire-end" cx="24" cy="25" r="2.8" />
    </svg>
  );
}
