import { expect, test } from "vitest";
import { at, decodeArrays, field, widen } from "./arrays";

/** An answer as nanogpt_jax/serve/payload.py lays it out. */
function payload(header: object, arrays: ArrayBuffer[]): ArrayBuffer {
  let text = JSON.stringify(header);
  while ((4 + text.length) % 8) text += " ";
  const aligned = (size: number) => Math.ceil(size / 8) * 8;
  const size = arrays.reduce((sum, each) => sum + aligned(each.byteLength), 4 + text.length);
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(new TextEncoder().encode(text), 4);
  let start = 4 + text.length;
  for (const each of arrays) {
    bytes.set(new Uint8Array(each), start);
    start += aligned(each.byteLength);
  }
  return bytes.buffer;
}

test("arrays are read in place, with what stands beside them", () => {
  const buffer = payload(
    {
      fields: {
        ids: { dtype: "int32", shape: [3], offset: 0 },
        grid: { dtype: "float32", shape: [2, 2], offset: 16 },
      },
      layers: [0, 1],
    },
    [new Int32Array([1, -2, 3]).buffer, new Float32Array([1, 2, 3, 4]).buffer],
  );
  const arrays = decodeArrays(buffer);
  expect([...field(arrays, "ids").data]).toEqual([1, -2, 3]);
  expect(arrays.beside).toEqual({ layers: [0, 1] });
  expect([...at(field(arrays, "grid"), 1).data]).toEqual([3, 4]);
  expect(field(arrays, "grid").data.buffer).toBe(buffer);
});

test("a field that is not there is named", () => {
  expect(() => field({ fields: {}, beside: {} }, "nats")).toThrow("no nats");
});

test("half precision is read to its last bit", () => {
  const halves: [number, number][] = [
    [0x0000, 0],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x0001, 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3555, 0.333251953125],
    [0x7c00, Infinity],
    [0xfc00, -Infinity],
  ];
  expect([...widen(new Uint16Array(halves.map(([half]) => half)))]).toEqual(
    halves.map(([, value]) => value),
  );
  expect(widen(new Uint16Array([0x7e00]))[0]).toBeNaN();
});
