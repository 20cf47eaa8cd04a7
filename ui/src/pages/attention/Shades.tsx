/** What the shades of a picture stand for. */
import { colour, scale } from "../../look/scale";
import { useTheme } from "../../look/theme";

const SHADES = [0, 0.2, 0.4, 0.6, 0.8, 1];

/** `top` is the weight that is drawn darkest. */
export function Shades({ top }: { top: number }) {
  const table = scale("sequential", useTheme());
  return (
    <ol className="shades" aria-label="Shades and the weights they stand for">
      {SHADES.map((shade) => (
        <li key={shade}>
          <span style={{ background: colour(table, shade) }} aria-hidden />
          {written(shade ** 2 * top)}
          {shade === 1 && top < 1 ? "+" : ""}
        </li>
      ))}
    </ol>
  );
}

function written(weight: number): string {
  return `${Number((100 * weight).toPrecision(weight < 0.1 ? 1 : 2))} %`;
}
