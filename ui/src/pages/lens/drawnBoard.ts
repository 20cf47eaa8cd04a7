/** The board as a picture, for who takes it along; on the page it is made of buttons. */
import { colour, type Table } from "../../look/scale";
import { cssColour } from "../../look/theme";
import { type Draw, type Drawing, drawingOf } from "../../parts/Canvas";
import { boardShare, signed } from "./harm";
import { inkOn } from "./score";
import { keyOf, type Part, partsOf, type Shape } from "./silenced";

const [LEFT, TOP, WIDTH, HEIGHT, GAP] = [64, 28, 76, 44, 4];
const SIZE = 12;

export function drawnBoard(
  shape: Shape,
  off: readonly Part[],
  harm: ReadonlyMap<string, number>,
  colours: Table,
): Drawing {
  const columns = shape.heads + (shape.mlps ? 1 : 0);
  const draw: Draw = (pen) => {
    const [muted, edge] = [cssColour("--muted"), cssColour("--edge")];
    const offKeys = new Set(off.map(keyOf));
    for (let layer = 0; layer < shape.layers; layer++) {
      const y = TOP + layer * HEIGHT;
      pen.text(0, y + HEIGHT / 2, `layer ${layer}`, { colour: muted, size: SIZE });
      partsOf(layer, shape).forEach((part, column) => {
        const [x, w, h] = [LEFT + column * WIDTH, WIDTH - GAP, HEIGHT - GAP];
        const style = { colour: muted, size: SIZE, align: "middle" } as const;
        const name = part.head === null ? "MLP" : `head ${part.head}`;
        if (layer === 0) pen.text(x + w / 2, TOP / 2, name, style);
        const bits = harm.get(keyOf(part)) ?? 0;
        const share = boardShare(bits, harm);
        if (offKeys.has(keyOf(part))) {
          pen.line([x, y, x + w, y, x + w, y + h, x, y + h, x, y], edge, 1.5, [4, 3]);
          pen.text(x + w / 2, y + h / 2, `off (${signed(bits)})`, style);
        } else {
          pen.rect(x, y, w, h, colour(colours, share));
          pen.text(x + w / 2, y + h / 2, signed(bits), { ...style, colour: inkOn(colours, share) });
        }
      });
    }
  };
  return drawingOf(draw, LEFT + columns * WIDTH, TOP + shape.layers * HEIGHT);
}
