/** Numbers and names as people say them. */

export function spell(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  if (minutes < 10) return `${minutes} min${rest ? ` ${rest} s` : ""}`;
  if (minutes < 60) return `${Math.round(whole / 60)} min`;
  const hours = Math.floor(minutes / 60);
  return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** With two digits that count: 0.003, 0.00012, 0.1. */
export function spellRate(rate: number): string {
  return String(Number(rate.toPrecision(2)));
}

export function spellCount(count: number): string {
  if (count >= 1e6) return `${Number((count / 1e6).toPrecision(3))} M`;
  if (count >= 1e4) return `${Number((count / 1e3).toPrecision(3))} k`;
  return Math.round(count).toLocaleString("en");
}

const RUN_ID = /^(?:(?<home>.*)\/)?runs\/(?<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/** The id of a run that a server has started, from its name. */
export function idOf(run: string): string | null {
  return RUN_ID.exec(run)?.groups?.id ?? null;
}

/** The name of a run, with so much of an id as tells it from others. */
export function shortName(run: string): string {
  const groups = RUN_ID.exec(run)?.groups;
  return groups ? `${groups.home ? `${groups.home}/` : ""}${groups.id!.slice(0, 8)}` : run;
}
