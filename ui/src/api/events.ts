/** Server-sent events of a stream, one JSON value each, as they come. */
import { ask, type Asking, unreachable } from "./client";
import { connection } from "./connection";

/** The events of an answer; ends with the stream, and throws when it breaks off. */
export async function* events<T>(path: string, asking: Asking): AsyncGenerator<T> {
  const response = await ask(path, { ...asking, accept: "text/event-stream" });
  if (!response.body) throw unreachable();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += value;
      const blocks = held.split("\n\n");
      held = blocks.pop()!;
      for (const block of blocks) {
        const data = block.split("\n").filter((line) => line.startsWith("data: "));
        const text = data.map((line) => line.slice(6)).join("\n");
        if (text && text !== "[DONE]") yield JSON.parse(text) as T;
      }
    }
  } catch (error) {
    if (asking.signal?.aborted) throw error;
    if (error instanceof SyntaxError) throw error;
    connection.lost();
    throw unreachable();
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}
