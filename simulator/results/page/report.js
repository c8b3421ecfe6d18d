// A click on a column's name sorts the table by it; missing values stay last.
for (const head of document.querySelectorAll("th")) {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const value = row => row.cells[head.cellIndex].dataset.v ?? row.cells[head.cellIndex].textContent;
    const rows = [...body.rows].sort((one, other) => {
      const a = value(one), b = value(other);
      if (a === "" || b === "") return (a === "") - (b === "");
      return (a - b || a.localeCompare(b, undefined, { numeric: true })) * (up ? 1 : -1);
    });
    body.append(...rows);
  });
}
