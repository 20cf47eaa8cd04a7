import { defineConfig } from "vitest/config";

// A browser against the real server, one file after the other: they share two cores.
export default defineConfig({
  test: {
    include: ["e2e/**/*.test.ts"],
    globalSetup: ["e2e/serve.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 180_000, // a server starts in some, which takes a minute on busy cores
    // How long what a page has been asked for may take to be seen; busy cores take their time.
    expect: { poll: { timeout: 15_000 } },
  },
});
