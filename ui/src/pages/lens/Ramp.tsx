/** What the colours of a scale stand for; and the room that is kept for what is awaited. */
import { colour, scale, type ScaleName } from "../../look/scale";
import { useTheme } from "../../look/theme";

interface Props {
  colours: ScaleName;
  /** What the first colour means, what the last does, and what the middle does where that says more. */
  names: readonly [string, string] | readonly [string, string, string];
}

const STOPS = 9;

export function Ramp({ colours, names }: Props) {
  const table = scale(colours, useTheme());
  const stops = Array.from({ length: STOPS }, (_, stop) => colour(table, stop / (STOPS - 1)));
  return (
    <p className="ramp small muted">
      <span
        className="ramp-bar"
        style={{ background: `linear-gradient(90deg, ${stops.join()})` }}
      />
      {names.map((name) => (
        <span key={name}>{name}</span>
      ))}
    </p>
  );
}

export function Room({ waiting }: { waiting: boolean }) {
  return (
    <div className="lens-room muted" role="status">
      {waiting && "Looking… The first look at a text of a new length takes longest."}
    </div>
  );
}
