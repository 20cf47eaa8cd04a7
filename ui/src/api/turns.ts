/** The server looks inside for a few at a time and refuses the rest: what a page asks for at once
 * waits here, so that nothing is refused and asked again seconds later.
 */
const MOST_AT_ONCE = 4;

let free = MOST_AT_ONCE;
const waiting: (() => void)[] = [];

export async function inTurn<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  if (free > 0) free -= 1;
  else await new Promise<void>((begin) => waiting.push(begin));
  try {
    signal.throwIfAborted();
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  }
}
