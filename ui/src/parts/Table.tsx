/** The numbers of a drawing as a table: for screen readers, for copying, for who wants to read them. */
import { type ReactNode, useState } from "react";

interface Props {
  caption: string;
  columns: readonly string[];
  /** Made when the table is opened. */
  rows: () => readonly (readonly ReactNode[])[];
}

export function TableAlternative({ caption, columns, rows }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>As a table</summary>
      {open && (
        <div className="scroll" tabIndex={0} role="region" aria-label={caption}>
          <table>
            <caption className="unseen">{caption}</caption>
            <thead>
              <tr>
                {columns.map((column, index) => (
                  <th key={index} scope="col">
                    {column}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows().map((row, index) => (
                <tr key={index}>
                  {row.map((cell, column) => (
                    <td key={column}>{cell}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}
