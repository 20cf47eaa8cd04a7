// @vitest-environment node
import { readFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";
import { expect, test } from "vitest";

const ui = new URL("../../", import.meta.url);

test("the types of the routes are those of openapi.json; `npm run schema` writes them anew", async () => {
  const document = JSON.parse(readFileSync(new URL("openapi.json", ui), "utf8"));
  const generated = astToString(await openapiTS(document));
  const written = readFileSync(new URL("src/api/schema.ts", ui), "utf8");
  expect(generated).toContain("/api/inspect/attention");
  // The file begins with a comment of its generator.
  expect(written.slice(written.indexOf("export interface paths")).trim()).toBe(generated.trim());
});
