import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Where `scripts/dev` has started the server whose pages these are.
const api = process.env.NANOGPT_API ?? "http://127.0.0.1:8787";
const proxied = ["/api", "/v1", "/health", "/ready", "/metrics", "/docs"];

export default defineConfig({
  plugins: [react()],
  server: {
    host: "127.0.0.1",
    port: Number(process.env.NANOGPT_UI_PORT ?? 5173),
    strictPort: true,
    proxy: Object.fromEntries(proxied.map((path) => [path, { target: api, changeOrigin: true }])),
  },
  build: { target: "es2022", assetsInlineLimit: 0, reportCompressedSize: true },
});
