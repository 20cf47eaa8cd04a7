/** A canvas as wide as its place and sharp on its screen, drawn by a function of a Pen. */
import {
  type ReactNode,
  type Ref,
  useEffect,
  useImperativeHandle,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { CanvasPen, type Pen, SvgPen } from "../look/pen";
import { cssColour, useTheme } from "../look/theme";

export type Draw = (pen: Pen, width: number, height: number) => void;

/** What an export asks a drawing for. */
export interface Drawing {
  svg: () => string;
  png: () => Promise<Blob>;
}

interface Props {
  /** CSS pixels; a function of the width where it depends on it. */
  height: number | ((width: number) => number);
  draw: Draw;
  /** What is drawn, for who does not see it. */
  label: string;
  drawing?: Ref<Drawing> | undefined;
  /** What lies over the drawing: canvases and controls, positioned in the same box. */
  children?: ReactNode | ((width: number) => ReactNode);
}

/** The width of an element, followed. */
export function useWidth(): [Ref<HTMLDivElement>, number] {
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  // Before the first frame: what is laid out by this width would jump in the second.
  useLayoutEffect(() => {
    const element = ref.current!;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    setWidth(element.clientWidth);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** Grows when a font has come: text that was drawn before it is drawn again. */
export function useFonts(): number {
  const [come, setCome] = useState(0);
  useEffect(() => {
    const redraw = () => setCome((before) => before + 1);
    document.fonts.addEventListener("loadingdone", redraw);
    return () => document.fonts.removeEventListener("loadingdone", redraw);
  }, []);
  return come;
}

/** Makes a canvas ready: its size in CSS pixels, its bits for this screen, cleared. */
export function prepare(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
  ratio = devicePixelRatio || 1,
): CanvasPen {
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return new CanvasPen(context);
}

// Wider canvases stay blank in some browsers.
const MOST_CANVAS_PX = 16_000;

/** A drawing of any size for export, on the theme's surface. */
export function drawingOf(draw: Draw, width: number, height: number): Drawing {
  return {
    svg() {
      const pen = new SvgPen(width, height, cssColour("--surface"));
      draw(pen, width, height);
      return pen.toString();
    },
    png() {
      const whole = document.createElement("canvas");
      const ratio = Math.min(devicePixelRatio || 1, MOST_CANVAS_PX / Math.max(width, height));
      const pen = prepare(whole, width, height, ratio);
      pen.rect(0, 0, width, height, cssColour("--surface"));
      draw(pen, width, height);
      return new Promise((resolve, reject) =>
        whole.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no PNG was made")))),
      );
    },
  };
}

export function Canvas({ height, draw, label, drawing, children }: Props) {
  const [box, width] = useWidth();
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useTheme();
  const fonts = useFonts();
  const high = typeof height === "number" ? height : height(width);
  useEffect(() => {
    if (width > 0) draw(prepare(canvas.current!, width, high), width, high);
  }, [draw, width, high, theme, fonts]);
  useImperativeHandle(drawing, () => drawingOf(draw, width, high), [draw, width, high]);
  return (
    <div ref={box} className="canvas" style={{ height: high, position: "relative" }}>
      <canvas
        ref={canvas}
        role="img"
        aria-label={label}
        style={{ width: "100%", height: "100%", position: "absolute", inset: 0 }}
      />
      {width > 0 && (typeof children === "function" ? children(width) : children)}
    </div>
  );
}
