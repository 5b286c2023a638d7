"use strict";

// Without this the page is a table, worst first. With it, the headings of the columns sort it.
(() => {
  const body = document.querySelector("tbody");
  const headings = [...document.querySelectorAll("thead th[data-sort]")];
  const told = document.getElementById("sorted");
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  const sort = (column, kind, descending) => {
    const rows = [...body.rows].map((row) => ({ row, key: row.cells[column].dataset.key }));
    rows.sort((a, b) => {
      // What is not known comes last, whatever the direction.
      if (a.key === "" || b.key === "") {
        return (a.key === "") - (b.key === "");
      }
      const order = kind === "number" ? Number(a.key) - Number(b.key) : collator.compare(a.key, b.key);
      return descending ? -order : order;
    });
    body.append(...rows.map((item) => item.row));
  };

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const first = heading.dataset.first || "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const next = now === first ? other : first;
      for (const item of headings) {
        item.removeAttribute("aria-sort");
      }
      heading.setAttribute("aria-sort", next);
      sort(column, heading.dataset.sort, next === "descending");
      told.textContent = `By ${button.textContent.toLowerCase()}, ${next}.`;
    });
  });
})();
