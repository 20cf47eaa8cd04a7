/** Saves what is shown: a picture as PNG or SVG, the numbers as JSON. */
import { type RefObject, useEffect, useRef, useState } from "react";
import type { Drawing } from "./Canvas";

interface Props {
  /** The name of the file, without its ending. */
  name: string;
  drawing?: RefObject<Drawing | null>;
  json: () => unknown;
  /** Where one page has several. */
  label?: string;
}

export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Numbers of typed arrays as plain lists; JSON has no NaN. */
export function jsonOf(value: unknown): string {
  return JSON.stringify(
    value,
    (_, each: unknown) => (ArrayBuffer.isView(each) ? [...(each as Float32Array)] : each),
    1,
  );
}

export function Export({ name, drawing, json, label = "Export" }: Props) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    box.current?.querySelector<HTMLButtonElement>("div button")?.focus();
    const close = (event: Event) => {
      const away = event.type === "pointerdown" && !box.current?.contains(event.target as Node);
      const escape = event instanceof KeyboardEvent && event.key === "Escape";
      if (away || escape) setOpen(false);
      if (escape) button.current?.focus();
    };
    addEventListener("pointerdown", close);
    addEventListener("keydown", close);
    return () => {
      removeEventListener("pointerdown", close);
      removeEventListener("keydown", close);
    };
  }, [open]);
  const give = async (make: () => Blob | Promise<Blob>, ending: string) => {
    save(await make(), `${name}.${ending}`);
    setOpen(false);
    button.current?.focus();
  };
  const svg = () => new Blob([drawing!.current!.svg()], { type: "image/svg+xml" });
  const numbers = () => new Blob([jsonOf(json())], { type: "application/json" });
  return (
    <div className="menu" ref={box}>
      <button
        ref={button}
        type="button"
        className="button small"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        {label}
      </button>
      {open && (
        <div>
          {drawing && (
            <>
              <button
                type="button"
                className="button quiet"
                onClick={() => void give(() => drawing.current!.png(), "png")}
              >
                PNG picture
              </button>
              <button type="button" className="button quiet" onClick={() => void give(svg, "svg")}>
                SVG drawing
              </button>
            </>
          )}
          <button type="button" className="button quiet" onClick={() => void give(numbers, "json")}>
            JSON numbers
          </button>
        </div>
      )}
    </div>
  );
}
