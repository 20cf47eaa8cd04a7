/** Tokens as people see them: their bytes as text, with what cannot be seen made visible. */

export interface Shown {
  readonly text: string;
  /** Whether it stands for something that has no shape of its own: a space, a line, a byte. */
  readonly blank: boolean;
}

const VISIBLE: Record<string, string> = { "\n": "↵\n", "\t": "⇥", "\r": "␍" };

export class Vocabulary {
  private readonly bytes: Uint8Array[];
  private readonly special: ReadonlyMap<number, string>;

  constructor(hex: readonly string[], special: Readonly<Record<string, string>>) {
    this.bytes = hex.map(bytesOf);
    this.special = new Map(Object.entries(special).map(([id, name]) => [Number(id), name]));
  }

  get size(): number {
    return this.bytes.length;
  }

  bytesOf(id: number): Uint8Array {
    return this.bytes[id] ?? new Uint8Array();
  }

  /** Its bytes in hexadecimal, with a space between two. */
  hex(id: number): string {
    return [...this.bytesOf(id)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }

  isSpecial(id: number): boolean {
    return this.special.has(id);
  }

  /** Whether a special token has this name, such as <|user_end|>. */
  hasSpecial(name: string): boolean {
    return [...this.special.values()].includes(name);
  }

  /** The text of several tokens together; special ones are no text. */
  decode(ids: readonly number[]): string {
    const parts = ids.filter((id) => !this.special.has(id)).map((id) => this.bytesOf(id));
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let start = 0;
    for (const part of parts) {
      whole.set(part, start);
      start += part.length;
    }
    return new TextDecoder().decode(whole);
  }

  /** In running text: spaces stay spaces, ends of lines are shown and kept. */
  shown(id: number): Shown {
    const name = this.special.get(id);
    if (name !== undefined) return { text: name, blank: true };
    const bytes = this.bytesOf(id);
    const text = strictText(bytes);
    if (text === null) return { text: `⟨${this.hex(id)}⟩`, blank: true };
    const visible = text.replace(/[\n\t\r]/g, (each) => VISIBLE[each]!);
    return { text: visible, blank: text.trim() === "" };
  }

  /** On its own, as in a list or at an axis: in one line, with spaces marked. */
  label(id: number): string {
    return this.shown(id).text.replace(/ /g, "·").replace(/\n/g, "") || "∅";
  }
}

function bytesOf(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length / 2);
  for (let index = 0; index < bytes.length; index++) {
    bytes[index] = parseInt(hex.slice(2 * index, 2 * index + 2), 16);
  }
  return bytes;
}

function strictText(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
