/** Answers made of arrays, read in place: the layout is that of nanogpt_jax/serve/payload.py. */

export interface Field {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** The arrays of an answer by name, and what stands beside them. */
export interface Arrays {
  readonly fields: Readonly<Record<string, Field>>;
  readonly beside: Readonly<Record<string, unknown>>;
}

interface Header {
  fields: Record<string, { dtype: string; shape: number[]; offset: number }>;
  [name: string]: unknown;
}

export function decodeArrays(buffer: ArrayBuffer): Arrays {
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  const { fields: entries, ...beside } = JSON.parse(text) as Header;
  const fields: Record<string, Field> = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(entries)) {
    const size = shape.reduce((product, axis) => product * axis, 1);
    fields[name] = { shape, data: view(buffer, dtype, 4 + length + offset, size) };
  }
  return { fields, beside };
}

function view(buffer: ArrayBuffer, dtype: string, start: number, size: number): Field["data"] {
  if (dtype === "float32") return new Float32Array(buffer, start, size);
  if (dtype === "int32") return new Int32Array(buffer, start, size);
  if (dtype === "float16") return widen(new Uint16Array(buffer, start, size));
  throw new Error(`arrays of ${dtype} cannot be read; float32, float16 or int32 is required`);
}

/** IEEE 754 binary16 as float32. */
export function widen(halves: Uint16Array): Float32Array {
  const wide = new Float32Array(halves.length);
  for (let index = 0; index < halves.length; index++) {
    const half = halves[index]!;
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 0) wide[index] = sign * fraction * 2 ** -24;
    else if (exponent === 31) wide[index] = fraction ? NaN : sign * Infinity;
    else wide[index] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return wide;
}

/** The field of a name; an error names one that is missing. */
export function field(arrays: Arrays, name: string): Field {
  const found = arrays.fields[name];
  if (!found) throw new Error(`the answer has no ${name}`);
  return found;
}

/** The part of a field at leading indices, without a copy. */
export function at(whole: Field, ...indices: number[]): Field {
  const shape = whole.shape.slice(indices.length);
  const size = shape.reduce((product, axis) => product * axis, 1);
  let start = 0;
  indices.forEach((index, axis) => (start = start * whole.shape[axis]! + index));
  return { shape, data: whole.data.subarray(start * size, (start + 1) * size) };
}
