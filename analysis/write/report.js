// Sorts a table by the column whose header is pressed, and shows only the rows that hold what the filter says.
"use strict";

// The number a cell begins with, NaN where it begins with none: "−3.3 ± 0.6", "5 of 35", "1e-3".
function numberOf(cell) {
  return parseFloat(cell.textContent.trim().replace("\u2212", "-"));
}

function sortBy(header) {
  const row = header.parentElement;
  const body = header.closest("table").tBodies[0];
  const place = [...row.children].indexOf(header);
  const rising = header.getAttribute("aria-sort") !== "ascending";
  for (const other of row.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const rows = [...body.rows];
  const filled = rows.filter((one) => one.cells[place].textContent.trim() !== "");
  const empty = rows.filter((one) => one.cells[place].textContent.trim() === "");
  const numeric = filled.every((one) => !Number.isNaN(numberOf(one.cells[place])));
  filled.sort((one, other) => {
    const [a, b] = [one.cells[place], other.cells[place]];
    const order = numeric ? numberOf(a) - numberOf(b) : a.textContent.localeCompare(b.textContent);
    return rising ? order : -order;
  });
  body.append(...filled, ...empty);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}

for (const input of document.querySelectorAll("input[data-table]")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(" ");
    for (const row of document.getElementById(input.dataset.table).tBodies[0].rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
    }
  });
}
