/** The parts of a model as switches, shaded by how much worse the text is predicted without each.
 *
 * One stop of the Tab key: arrows go from switch to switch, Enter and Space press it.
 */
import { type CSSProperties, type KeyboardEvent, useRef, useState } from "react";
import { colour, scale } from "../../look/scale";
import { useTheme } from "../../look/theme";
import { boardShare, signed } from "./harm";
import { inkOn } from "./score";
import { keyOf, nameOf, type Part, partsOf, type Shape } from "./silenced";

interface Props {
  shape: Shape;
  off: readonly Part[];
  onToggle: (parts: readonly Part[]) => void;
  /** How many bits a token more are needed without a part; undefined while that is awaited. */
  harm: ReadonlyMap<string, number> | undefined;
}

export function Board({ shape, off, onToggle, harm }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const colours = scale("diverging", useTheme());
  const [reached, setReached] = useState("0.0");
  const offKeys = new Set(off.map(keyOf));
  const columns = shape.heads + (shape.mlps ? 1 : 0);
  const press = (event: KeyboardEvent) => {
    const buttons = [...box.current!.querySelectorAll<HTMLElement>("[data-part]")];
    const index = buttons.indexOf(event.target as HTMLElement);
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (index < 0 || !by) return;
    event.preventDefault();
    const next = buttons[index + by];
    if (!next) return;
    setReached(next.dataset.part!);
    next.focus();
  };
  const look = (bits: number | undefined): CSSProperties => {
    if (bits === undefined || !harm) return {};
    const share = boardShare(bits, harm);
    return { background: colour(colours, share), color: inkOn(colours, share) };
  };
  return (
    <div className="scroll">
      <div
        ref={box}
        className="board"
        role="group"
        aria-label="Parts of the model; pressed ones are off"
        style={{ "--columns": columns }}
        onKeyDown={press}
      >
        <span aria-hidden />
        {Array.from({ length: shape.heads }, (_, head) => (
          <span key={head} className="board-name" aria-hidden>
            head {head}
          </span>
        ))}
        {shape.mlps && (
          <span className="board-name" aria-hidden>
            MLP
          </span>
        )}
        {Array.from({ length: shape.layers }, (_, layer) => {
          const parts = partsOf(layer, shape);
          return [
            <button
              key={`layer ${layer}`}
              type="button"
              className="board-layer"
              title={`Switch all of layer ${layer}`}
              onClick={() => onToggle(parts)}
            >
              layer {layer}
            </button>,
            ...parts.map((part) => {
              const key = keyOf(part);
              const bits = harm?.get(key);
              const told = bits === undefined ? "" : `; without it ${signed(bits)} bits a token`;
              return (
                <button
                  key={key}
                  type="button"
                  className="board-part"
                  data-part={key}
                  aria-pressed={offKeys.has(key)}
                  aria-label={`${nameOf(part)}${told}`}
                  tabIndex={key === reached ? 0 : -1}
                  style={look(bits)}
                  onFocus={() => setReached(key)}
                  onClick={() => onToggle([part])}
                >
                  <span>{bits === undefined ? "…" : signed(bits)}</span>
                </button>
              );
            }),
          ];
        })}
      </div>
    </div>
  );
}
