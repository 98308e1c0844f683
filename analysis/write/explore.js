
// The explorable front: Vega-Lite draws what the controls choose, and the table below shows the same settings.

function explore() {
  const $ = (id) => document.getElementById(id);
  const { rows, x: xAxes, y: yAxes, looks } = JSON.parse($("explore-data").textContent);
  const library = document.createElement("script");
  library.textContent = JSON.parse($("vega").textContent);
  document.head.append(library);

  const form = document.querySelector("#explore form");
  const figure = $("explore-figure");
  const table = $("explore-table");
  const headers = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const tableRows = [...table.tBodies[0].rows]; // in the points' order, however the table is sorted later
  let view = null;
  let points = []; // what is drawn, from the cheapest on
  let chosen = null; // the number of a row
  let drawings = 0; // how many have begun

  // What the reader asks for.
  function asked() {
    const ticked = (name) => [...form.querySelectorAll(`input[name=${name}]:checked`)].map((one) => one.value);
    const place = (id, axes) => axes.findIndex((axis) => axis.key === $(id).value);
    const words = $("explore-filter").value.toLowerCase().split(" ").filter(Boolean);
    return { tasks: ticked("tasks"), methods: ticked("method"), words, x: place("explore-x", xAxes),
      y: place("explore-y", yAxes) };
  }

  // The rows that are asked for, and those of them that have both numbers as points.
  function select({ tasks, methods, words, x, y }) {
    const kept = rows.map((row, id) => {
      const content = tableRows[id].textContent.toLowerCase();
      return tasks.includes(row.tasks) && methods.includes(row.method) && words.every((word) => content.includes(word));
    });
    const found = [];
    rows.forEach((row, id) => {
      const [across, up] = [row.x[x], row.y[y]];
      if (!kept[id] || !across || !up) return;
      const around = ([mean, deviation], log) => {
        const low = mean - (deviation ?? 0);
        return [log && low <= 0 ? mean : low, mean + (deviation ?? 0)];
      };
      const [left, right] = around(across, xAxes[x].log);
      const [low, high] = around(up, false);
      found.push({ id, tasks: row.tasks, method: row.method, x: across[0], y: up[0], left, right, low, high,
        judgedX: across[2], judgedY: up[2], best: row.best, said: said(id) });
    });
    for (const combination of tasks) markFront(found.filter((point) => point.tasks === combination), x, y);
    found.sort((one, other) => tasks.indexOf(one.tasks) - tasks.indexOf(other.tasks) || one.x - other.x);
    return { kept, found };
  }

  // Marks the points that no other beats in one of the two without losing in the other, by the validation split.
  function markFront(some, x, y) {
    const signX = xAxes[x].maximize ? 1 : -1;
    const signY = yAxes[y].maximize ? 1 : -1;
    for (const one of some) {
      one.front = !some.some((other) => {
        const [across, up] = [signX * (other.judgedX - one.judgedX), signY * (other.judgedY - one.judgedY)];
        return across >= 0 && up >= 0 && (across > 0 || up > 0);
      });
    }
  }

  // A row of the table in words: what a point says of itself.
  function about(id) {
    return headers.map((header, place) => [header, tableRows[id].cells[place].textContent]).filter((pair) => pair[1]);
  }

  function said(id) {
    const words = about(id).filter(([header]) => header !== "trial");
    return words.map(([header, value], place) => (place < 2 ? value : `${header} ${value}`)).join(", ");
  }

  // 1, 2 and 5 times powers of ten, or fewer where they are many.
  function ticks(low, high) {
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
        for (const step of steps) found.push(Number(`${step}e${power}`));
      }
      const within = found.filter((tick) => tick >= low && tick <= high);
      if (within.length <= 7) return within.length > 1 ? within : null;
    }
    return null;
  }

  function specification(ask) {
    const [x, y] = [xAxes[ask.x], yAxes[ask.y]];
    const combinations = [...new Set(points.map((point) => point.tasks))];
    const room = figure.clientWidth - 84;
    const columns = Math.max(1, Math.min(combinations.length, Math.floor(room / 250)));
    const width = Math.max(140, room / columns - (columns > 1 ? 20 : 0));
    const height = combinations.length > 1 ? 260 : Math.max(280, Math.min(430, 0.62 * width));
    const methods = Object.keys(looks);
    const colors = { domain: methods, range: methods.map((name) => looks[name][0]) };
    const shapes = { domain: methods, range: methods.map((name) => looks[name][1]) };
    const low = Math.min(...points.map((point) => point.left));
    const high = Math.max(...points.map((point) => point.right));
    const across = x.log
      ? { scale: { type: "log", nice: false, padding: 14 }, axis: { title: x.label, values: ticks(low, high) ?? undefined, format: "~r", labelOverlap: true } }
      : { scale: { zero: false, padding: 14 }, axis: { title: x.label, tickCount: 6, labelOverlap: true } };
    const up = { scale: { zero: false, padding: 14 }, axis: { title: y.label, tickCount: 6 } };
    const at = { x: { field: "x", type: "quantitative", ...across }, y: { field: "y", type: "quantitative", ...up } };
    const color = { field: "method", scale: colors, legend: null };
    const ring = (test, size, strokeWidth) => ({
      transform: [{ filter: test }],
      mark: { type: "point", shape: "circle", filled: false, size, strokeWidth, stroke: "var(--ink)", fill: null, aria: false },
      encoding: at,
    });
    const bar = (from, to) => ({
      mark: { type: "rule", strokeWidth: 1, opacity: 0.55, aria: false },
      encoding: { ...at, ...from, ...to, color },
    });
    const layer = [
      {
        transform: [{ filter: "datum.front" }],
        mark: { type: "line", interpolate: x.maximize ? "step-before" : "step-after", stroke: "var(--context)", strokeWidth: 3, aria: false },
        encoding: { ...at, order: { field: "x" } },
      },
      bar({ x: { ...at.x, field: "left" } }, { x2: { field: "right" } }),
      bar({ y: { ...at.y, field: "low" } }, { y2: { field: "high" } }),
      {
        mark: { type: "point", size: 70, strokeWidth: 1.6, opacity: 1 },
        encoding: { ...at, stroke: color, shape: { field: "method", scale: shapes, legend: null },
          fill: { condition: { test: "datum.front", ...color }, value: "var(--ground)" },
          description: { field: "said" } },
      },
      ring("datum.best", 330, 1.4),
      ring("datum.id === chosen", 620, 3),
      { mark: { type: "point", shape: "circle", size: 700, opacity: 0, fill: "#000", cursor: "pointer", aria: false }, encoding: at },
    ];
    if (y.zero) {
      const zero = { type: "rule", stroke: "var(--reference)", strokeDash: [5, 4], strokeWidth: 1, aria: false };
      layer.unshift({ mark: zero, encoding: { y: { datum: 0, type: "quantitative" } } });
    }
    const words = { labelColor: "var(--ink)", titleColor: "var(--ink)", labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal" };
    const lines = { gridColor: "var(--grid)", domainColor: "var(--ink)", tickColor: "var(--ink)" };
    return {
      data: { values: [...points].sort((one, other) => one.best - other.best) }, // the last is drawn on top
      params: [{ name: "chosen", value: chosen }],
      description: `${y.label} against ${x.label}, ${points.length} settings`,
      facet: { field: "tasks", type: "nominal", sort: ask.tasks, title: null, header: { labelColor: "var(--ink)", labelFontSize: 13, labelAnchor: "start", labelFontWeight: 600, labelExpr: "replace(datum.label, /\\+/g, ' + ')", labelLimit: width } },
      columns,
      spec: { width, height, layer },
      config: { background: null, font: "system-ui, sans-serif", axis: { ...words, ...lines }, view: { stroke: null }, facet: { spacing: 24 } },
    };
  }

  // Draws anew: the controls, the filter or the window have changed.
  async function show() {
    const ask = asked();
    const { kept, found } = select(ask);
    points = found;
    tableRows.forEach((row, id) => { row.hidden = !kept[id]; });
    const shown = kept.filter(Boolean).length;
    const without = shown - points.length;
    const said = shown ? `${shown} of ${rows.length} settings are shown.` : "No setting is shown: choose tasks and methods, or clear the filter.";
    tell(said + (without ? ` ${without} of them are in the table only, as they lack a number on an axis.` : ""));
    view?.finalize();
    view = null;
    figure.dataset.drawn = "no";
    const [x, y] = [xAxes[ask.x], yAxes[ask.y]];
    $("explore-caption").textContent =
      `Each point is one setting, a mean over seeds on the test split; bars are the sample standard deviation. ` +
      `Filled and joined by grey steps: the settings shown that no other one shown beats in both, chosen on the ` +
      `validation split. A thin ring marks the model to use, a thick one the chosen point.` +
      (y.zero ? ` The broken line is ${y.zero}.` : "") +
      ` ${x.maximize ? "Right" : "Left"} is cheaper, ${y.maximize ? "up" : "down"} is better.`;
    const canvas = document.createElement("div");
    if (!points.length) {
      drawings += 1;
      figure.replaceChildren();
      choose(chosen, false);
      figure.dataset.drawn = "yes";
      return;
    }
    const options = { renderer: "svg", actions: false, defaultStyle: false, ast: true, tooltip: () => {} };
    const drawing = ++drawings;
    const { view: drawn } = await vegaEmbed(canvas, specification(ask), options);
    if (drawing !== drawings) {
      drawn.finalize(); // a later one has begun
      return;
    }
    view = drawn;
    figure.replaceChildren(canvas);
    choose(chosen, false);
    drawn.addEventListener("mousemove", (event, item) => hover(event, item?.datum?.id));
    drawn.addEventListener("mouseout", () => hover(null));
    drawn.addEventListener("click", (_, item) => { if (item?.datum?.id !== undefined) choose(item.datum.id, true); });
    figure.dataset.drawn = "yes";
  }

  const tip = document.createElement("div");
  tip.id = "explore-tip";
  tip.hidden = true;
  document.body.append(tip);

  // The point under the pointer in full.
  function hover(event, id) {
    tip.hidden = id === undefined || event === null;
    if (tip.hidden) return;
    tip.replaceChildren(...described(id));
    const left = Math.min(event.clientX + 16, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 16 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 12)}px`;
  }

  function element(name, content, className) {
    const made = document.createElement(name);
    made.textContent = content;
    if (className) made.className = className;
    return made;
  }

  // A setting's name, its row of the table and the command that makes its model small.
  function described(id, copies) {
    const facts = document.createElement("dl");
    for (const [header, value] of about(id).slice(1)) facts.append(element("dt", header), element("dd", value.replaceAll("+", "+\u200b").replaceAll(" ± ", "\u00a0±\u00a0")));
    const command = element("div", "", "command");
    command.append(element("code", rows[id].command));
    if (copies) command.append(element("button", "Copy", "copy"));
    const point = points.find((one) => one.id === id);
    const where = point?.front ? "On the front of what is shown." : "Another setting shown is better in both.";
    const marks = [rows[id].best ? "The model to use." : "", point ? where : ""].filter(Boolean).join(" ");
    return [element("strong", rows[id].name), element("p", marks, "soft"), facts, command];
  }

  // Marks a setting in the figure and in the table, and says it.
  function choose(id, loud) {
    chosen = id;
    tableRows.forEach((row, place) => {
      row.classList.toggle("chosen", place === id);
      row.querySelector(".pick").setAttribute("aria-pressed", String(place === id));
    });
    view?.signal("chosen", id).runAsync();
    $("explore-chosen").replaceChildren(...(id === null ? [] : described(id, true)));
    if (id === null || !loud) return;
    const row = tableRows[id];
    const box = table.closest(".scroll"); // which alone is scrolled, not the page
    box.scrollTop += row.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2;
    tell(`Chosen: ${said(id)}.`);
  }

  function tell(sentence) {
    $("explore-status").textContent = sentence;
  }

  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  table.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-row]");
    if (!row) return;
    const id = Number(row.dataset.row);
    choose(chosen === id ? null : id, true);
  });
  figure.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { hover(null); choose(null); return; }
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !points.length) return;
    event.preventDefault();
    const now = points.findIndex((point) => point.id === chosen);
    const next = now < 0 && steps[event.key] === -1 ? points.length - 1 : now + steps[event.key];
    choose(points[Math.max(0, Math.min(points.length - 1, next))].id, true);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hover(null); });
  let width = 0;
  new ResizeObserver(() => {
    if (figure.clientWidth === width) return;
    width = figure.clientWidth;
    show();
  }).observe(figure);
  document.documentElement.classList.add("js");
  const use = rows.findIndex((row) => row.best && asked().tasks.includes(row.tasks));
  choose(use < 0 ? null : use, false);
}

document.addEventListener("click", async (event) => {
  if (!event.target.matches("button.copy")) return;
  const code = event.target.parentElement.querySelector("code");
  getSelection().selectAllChildren(code); // which can be copied by hand where the page may not
  try {
    await navigator.clipboard.writeText(code.textContent);
    event.target.textContent = "Copied";
  } catch {
    event.target.textContent = "Selected";
  }
});

if (document.getElementById("explore-data")) explore();
