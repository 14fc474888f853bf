import { defineConfig } from "vitest/config";

// `npm run dev` serves the sources and passes everything else to a server that runs already.
const SERVER = process.env["LOREWIRE_URL"] ?? "http://127.0.0.1:8000";

export default defineConfig(({ command }) => ({
  base: command === "build" ? "/static/" : "/",
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsDir: "",
    target: ["chrome123", "edge123", "firefox121", "safari17.5"],
    modulePreload: { polyfill: false },
    // Nothing inline: the Content-Security-Policy allows files of this host only.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/api": { target: SERVER, ws: true }, "/health": SERVER } },
  test: { include: ["tests/**/*.test.ts"] },
}));
