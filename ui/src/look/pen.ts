/** One drawing, two outputs: what is drawn with a Pen appears on a canvas and in an SVG file alike. */

export interface TextStyle {
  readonly colour: string;
  readonly size: number;
  readonly align?: "start" | "middle" | "end";
  readonly mono?: boolean;
  readonly bold?: boolean;
  /** Degrees, about the place of the text. */
  readonly turn?: number;
}

export interface Pen {
  rect(x: number, y: number, width: number, height: number, colour: string): void;
  /** A line through points x0, y0, x1, y1, ...; one that is no number interrupts it. */
  line(points: readonly number[], colour: string, width: number, dashes?: readonly number[]): void;
  /** An arc over a text: from x0 to x1 at height y, as high as `height`. */
  arc(x0: number, x1: number, y: number, height: number, colour: string, width: number): void;
  dot(x: number, y: number, radius: number, colour: string): void;
  /** The text's middle height is at y. */
  text(x: number, y: number, text: string, style: TextStyle): void;
  image(x: number, y: number, width: number, height: number, image: HTMLCanvasElement): void;
}

const SANS = '"Inter Variable", ui-sans-serif, system-ui, sans-serif';
const MONO = '"JetBrains Mono Variable", ui-monospace, monospace';

let ruler: CanvasRenderingContext2D | null = null;

/** How wide a text of a style is drawn, in CSS pixels. */
export function widthOf(text: string, { size, mono, bold }: Omit<TextStyle, "colour">): number {
  ruler ??= document.createElement("canvas").getContext("2d")!;
  ruler.font = fontOf({ size, mono, bold });
  ruler.textRendering = mono ? "optimizeSpeed" : "auto";
  return ruler.measureText(text).width;
}

function fontOf({ size, mono, bold }: Omit<TextStyle, "colour">): string {
  return `${bold ? 600 : 400} ${size}px ${mono ? MONO : SANS}`;
}

export class CanvasPen implements Pen {
  private font = "";

  constructor(private readonly to: CanvasRenderingContext2D) {}

  rect(x: number, y: number, width: number, height: number, colour: string): void {
    this.to.fillStyle = colour;
    this.to.fillRect(x, y, width, height);
  }

  line(points: readonly number[], colour: string, width: number, dashes?: readonly number[]): void {
    this.to.strokeStyle = colour;
    this.to.lineWidth = width;
    this.to.lineJoin = "round";
    this.to.setLineDash([...(dashes ?? [])]);
    this.to.beginPath();
    let broken = true;
    for (let index = 0; index + 1 < points.length; index += 2) {
      const [x, y] = [points[index]!, points[index + 1]!];
      if (!Number.isFinite(y)) broken = true;
      else if (broken) {
        this.to.moveTo(x, y);
        broken = false;
      } else this.to.lineTo(x, y);
    }
    this.to.stroke();
    this.to.setLineDash([]);
  }

  arc(x0: number, x1: number, y: number, height: number, colour: string, width: number): void {
    this.to.strokeStyle = colour;
    this.to.lineWidth = width;
    this.to.beginPath();
    this.to.moveTo(x0, y);
    this.to.bezierCurveTo(x0, y - (4 / 3) * height, x1, y - (4 / 3) * height, x1, y);
    this.to.stroke();
  }

  dot(x: number, y: number, radius: number, colour: string): void {
    this.to.fillStyle = colour;
    this.to.beginPath();
    this.to.arc(x, y, radius, 0, 2 * Math.PI);
    this.to.fill();
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const font = fontOf(style);
    if (font !== this.font) {
      this.to.font = this.font = font; // a line of tokens has one, which is read once
      // Without ligatures: a token such as <|bos|> is to be read letter by letter.
      this.to.textRendering = style.mono ? "optimizeSpeed" : "auto";
    }
    this.to.fillStyle = style.colour;
    this.to.textAlign = style.align === "middle" ? "center" : (style.align ?? "start");
    this.to.textBaseline = "middle";
    if (!style.turn) {
      this.to.fillText(text, x, y);
      return;
    }
    this.to.save();
    this.to.translate(x, y);
    this.to.rotate((style.turn * Math.PI) / 180);
    this.to.fillText(text, 0, 0);
    this.to.restore();
  }

  image(x: number, y: number, width: number, height: number, image: HTMLCanvasElement): void {
    // Cells keep their edges; where there is less than a dot for each, none is left out.
    this.to.imageSmoothingEnabled = width < image.width;
    this.to.drawImage(image, x, y, width, height);
  }
}

export class SvgPen implements Pen {
  private readonly elements: string[] = [];

  constructor(
    private readonly width: number,
    private readonly height: number,
    private readonly paper: string,
  ) {}

  rect(x: number, y: number, width: number, height: number, colour: string): void {
    const box = `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`;
    this.elements.push(`<rect ${box} fill="${escaped(colour)}"/>`);
  }

  line(points: readonly number[], colour: string, width: number, dashes?: readonly number[]): void {
    let path = "";
    let command = "M";
    for (let index = 0; index + 1 < points.length; index += 2) {
      const [x, y] = [points[index]!, points[index + 1]!];
      if (Number.isFinite(y)) path += `${command}${round(x)} ${round(y)}`;
      command = Number.isFinite(y) ? "L" : "M";
    }
    const dashed = dashes ? ` stroke-dasharray="${dashes.join(" ")}"` : "";
    this.stroke(path, colour, width, dashed);
  }

  arc(x0: number, x1: number, y: number, height: number, colour: string, width: number): void {
    const top = round(y - (4 / 3) * height);
    const [from, to, base] = [round(x0), round(x1), round(y)];
    this.stroke(`M${from} ${base}C${from} ${top} ${to} ${top} ${to} ${base}`, colour, width, "");
  }

  dot(x: number, y: number, radius: number, colour: string): void {
    const place = `cx="${round(x)}" cy="${round(y)}" r="${round(radius)}"`;
    this.elements.push(`<circle ${place} fill="${escaped(colour)}"/>`);
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const turned = style.turn ? ` transform="rotate(${style.turn} ${round(x)} ${round(y)})"` : "";
    const family = escaped(style.mono ? MONO : SANS);
    const plain = style.mono ? ' style="font-variant-ligatures:none"' : "";
    this.elements.push(
      `<text x="${round(x)}" y="${round(y)}" font-family="${family}" font-size="${style.size}" ` +
        `font-weight="${style.bold ? 600 : 400}" fill="${escaped(style.colour)}" ` +
        `text-anchor="${style.align ?? "start"}" dominant-baseline="central" ` +
        `xml:space="preserve"${plain}${turned}>${escaped(text)}</text>`,
    );
  }

  image(x: number, y: number, width: number, height: number, image: HTMLCanvasElement): void {
    const box = `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`;
    this.elements.push(
      `<image ${box} preserveAspectRatio="none" style="image-rendering:pixelated" ` +
        `href="${image.toDataURL("image/png")}"/>`,
    );
  }

  toString(): string {
    const size = `width="${this.width}" height="${this.height}"`;
    const box = `viewBox="0 0 ${this.width} ${this.height}"`;
    const paper = `<rect width="100%" height="100%" fill="${escaped(this.paper)}"/>`;
    const all = [paper, ...this.elements].join("\n");
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${box}>\n${all}\n</svg>\n`;
  }

  private stroke(path: string, colour: string, width: number, rest: string): void {
    const pen = `stroke="${escaped(colour)}" stroke-width="${width}" stroke-linejoin="round"`;
    this.elements.push(`<path d="${path}" fill="none" ${pen}${rest}/>`);
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Any text as text of XML; what XML cannot hold is left out. */
export function escaped(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "")
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;");
}
