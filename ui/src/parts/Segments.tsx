/** A choice of few, as a radio group: arrows move it. */
import { type KeyboardEvent, useRef } from "react";

interface Props<Name extends string> {
  label: string;
  options: readonly (readonly [Name, string])[];
  value: Name;
  onChange: (value: Name) => void;
}

/** Which of `count` an arrow key goes to from `index`; null for other keys. */
export function arrowed(key: string, index: number, count: number): number | null {
  if (key === "ArrowRight" || key === "ArrowDown") return (index + 1) % count;
  if (key === "ArrowLeft" || key === "ArrowUp") return (index + count - 1) % count;
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return null;
}

export function Segments<Name extends string>({ label, options, value, onChange }: Props<Name>) {
  const box = useRef<HTMLDivElement>(null);
  const chosen = options.findIndex(([name]) => name === value);
  const move = (event: KeyboardEvent) => {
    const next = arrowed(event.key, chosen, options.length);
    if (next === null) return;
    event.preventDefault();
    onChange(options[next]![0]);
    box.current?.querySelectorAll("button")[next]?.focus();
  };
  return (
    <div ref={box} className="segments" role="radiogroup" aria-label={label} onKeyDown={move}>
      {options.map(([name, text]) => (
        <button
          key={name}
          type="button"
          role="radio"
          aria-checked={name === value}
          tabIndex={name === value ? 0 : -1}
          onClick={() => onChange(name)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}
