import { chooseTheme, useTheme } from "../look/theme";

/** Light becomes dark and back. */
export function ThemeButton() {
  const theme = useTheme();
  const other = theme === "light" ? "dark" : "light";
  return (
    <button
      type="button"
      className="button quiet icon"
      aria-label={`Use the ${other} theme`}
      onClick={() => chooseTheme(other)}
    >
      <svg width="18" height="18" viewBox="0 0 18 18" aria-hidden>
        <circle cx="9" cy="9" r="6.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
        <path d="M9 2.5a6.5 6.5 0 0 1 0 13z" fill="currentColor" />
      </svg>
    </button>
  );
}
