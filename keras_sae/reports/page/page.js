const data = JSON.parse(document.getElementById("data").textContent);
const drawn = [];  // charts of the unit that is shown
const at = {layer: 0, unit: 0};

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") made.style.cssText = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function draw(place, spec, values) {
  const whole = values ? {...spec, data: {values}} : spec;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return vegaEmbed(place, whole, {actions: false, renderer: "svg", tooltip: {theme: dark ? "dark" : "light"}});
}

function tile(sprite, number, text, size) {
  const {columns, rows} = data.sprites[sprite];
  const share = (at, of) => of > 1 ? 100 * at / (of - 1) : 0;
  const style = `background-position:${share(number % columns, columns)}% ${share(Math.floor(number / columns), rows)}%`;
  const said = text ? {role: "img", "aria-label": text} : {"aria-hidden": "true"};
  return element("span", {class: `tile ${sprite}`, ...said, style: style + (size ? `;--size:${size}px` : "")});
}

const short = value => value === null ? "" : String(Number(value.toPrecision(3)));
const nameOf = example => `row ${data.rows[example]}` + (data.labels ? `, ${data.classes[data.labels[example]]}` : "");

function table(caption, head, lines) {
  const row = (cells, kind) => element("tr", {}, ...cells.map((cell, i) =>
    element(i ? kind : "th", i ? {class: "figure"} : {scope: kind === "th" ? "col" : "row"}, cell)));
  return element("div", {class: "wide"}, element("table", {}, element("caption", {}, caption),
    element("thead", {}, row(head, "th")), element("tbody", {}, ...lines.map(line => row(line, "td")))));
}

function examples(title, unit, kind) {
  const found = unit[kind];
  if (!found.length) return [];
  if (!data.examples) {
    const lines = found.map(([example, value], i) => [nameOf(example), short(value), ...unit.values[kind][i].map(short)]);
    return [table(title, ["row", "activation", ...unit.columns.slice(0, unit.values[kind][0].length).map(column => column.name)], lines)];
  }
  return [element("h4", {}, title), element("div", {class: "tiles"}, ...found.map(([example, value]) => {
    const label = data.labels ? `${data.classes[data.labels[example]]} · ` : "";
    return element("figure", {}, tile(data.examples, example, nameOf(example), data.size),
      element("figcaption", {}, `${label}${short(value)}`));
  }))];
}

function drivers(unit) {
  const largest = Math.max(...unit.columns.map(column => Math.abs(column.share)), 1e-9);
  const lines = unit.columns.map(column => [
    column.name,
    element("span", {}, element("span", {class: column.share < 0 ? "bar against" : "bar",
      style: `width:${3 * Math.abs(column.share) / largest}rem`}), ` ${column.share < 0 ? "−" : "+"}${Math.round(100 * Math.abs(column.share))} %`),
    short(column.top), short(column.all)]);
  return table("The columns that drive it: + if high values activate it, − if low ones do", ["column", "share", "mean of its strongest rows", "mean of all rows"], lines);
}

function show(layerNumber, unitNumber) {
  const layer = data.layers[layerNumber], unit = layer.units[unitNumber], body = document.getElementById("unit-body");
  Object.assign(at, {layer: layerNumber, unit: unitNumber});
  drawn.splice(0).forEach(view => view.finalize());
  document.querySelectorAll("[data-layer]").forEach((button, i) => button.setAttribute("aria-pressed", i === layerNumber));
  document.querySelectorAll("[data-of]").forEach(note => { note.hidden = Number(note.dataset.of) !== layerNumber; });
  document.querySelectorAll(".grid").forEach((grid, i) => {
    grid.hidden = i !== layerNumber;
    grid.querySelectorAll("button").forEach((button, j) => {
      const chosen = i === layerNumber && j === unitNumber;
      button.setAttribute("aria-pressed", chosen);
      button.tabIndex = chosen || (i !== layerNumber && !j) ? 0 : -1;
    });
  });
  document.getElementById("unit-name").textContent = `Unit ${unit.number} of ${layer.name}`;
  document.getElementById("unit-words").textContent = unit.sentences.join(" ");
  const parts = [];
  if (layer.looks) {
    const pair = element("div", {class: "pair"}, element("figure", {}, tile(layer.looks, unitNumber, `the input that activates unit ${unit.number} most`),
      element("figcaption", {}, "What it looks for")));
    if (layer.adds) pair.append(element("figure", {}, tile(layer.adds, unitNumber, `what unit ${unit.number} adds to the reconstruction`),
      element("figcaption", {}, "What it adds to the reconstruction")));
    parts.push(pair);
  } else if (unit.columns) parts.push(drivers(unit));
  parts.push(...examples("The rows that activate it most, with its activation", unit, "top"));
  parts.push(...examples("Rows that activate it half as much", unit, "middling"));
  const histogram = element("div", {class: "chart"}), bars = element("div", {class: "chart"});
  if (!unit.dead) parts.push(element("h4", {}, "Its activations on all rows (how many, on a log scale)"), histogram);
  if (unit.means) parts.push(element("h4", {}, "Its mean activation on each class"), bars);
  if (unit.near.length) {
    parts.push(element("h4", {}, "Units that look for much the same (1: for the same)"), element("div", {class: "tiles"}, ...unit.near.map(([other, cosine]) => {
      const number = layer.units[other].number, button = element("button", {type: "button", "aria-label": `Unit ${number}, cosine ${short(cosine)}`},
        ...(layer.looks ? [tile(layer.looks, other, ""), element("br")] : []), `${number} · ${short(cosine)}`);
      button.onclick = () => {
        choose(layerNumber, other);
        document.getElementById("unit").focus({preventScroll: true});  // this button is gone
      };
      return button;
    })));
  }
  body.replaceChildren(...parts);
  const place = document.getElementById("unit");
  place.scrollTop = 0;
  if (!unit.dead) draw(histogram, data.histogram, unit.counts.map((count, i) => ({low: unit.edges[i], high: unit.edges[i + 1], count}))).then(({view}) => drawn.push(view));
  if (unit.means) draw(bars, data.bars, unit.means.map(([label, mean]) => ({name: data.classes[label], mean}))).then(({view}) => drawn.push(view));
}

function chosen() {  // by an address that ends with #layer-1-unit-7
  const found = /^#layer-(\d+)-unit-(\d+)$/.exec(location.hash), layer = found && data.layers[found[1] - 1];
  const unit = layer ? layer.units.findIndex(one => one.number === Number(found[2])) : -1;
  return unit < 0 ? null : [found[1] - 1, unit];
}

function choose(layer, unit) {
  show(layer, unit);
  try {
    history.replaceState(null, "", `#layer-${layer + 1}-unit-${data.layers[layer].units[unit].number}`);
  } catch { /* a page within a notebook has no address of its own */ }
}

for (const place of document.querySelectorAll("[data-chart]")) draw(place, data.charts[place.dataset.chart][place.dataset.number]);

for (const [k, grid] of document.querySelectorAll(".grid").entries()) {
  const buttons = [...grid.querySelectorAll("button")];
  grid.onclick = event => {
    const button = event.target.closest("button");
    if (!button) return;
    choose(k, buttons.indexOf(button));
    if (getComputedStyle(document.getElementById("unit")).position !== "sticky") document.getElementById("unit").scrollIntoView();
  };
  grid.onkeydown = event => {
    const here = buttons.indexOf(document.activeElement), across = Math.max(1, Math.floor(grid.clientWidth / (buttons[0].offsetWidth + 5)));
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -here, End: buttons.length - 1 - here}[event.key];
    if (by === undefined || !buttons[here + by]) return;
    event.preventDefault();
    buttons[here + by].focus();
  };
}
for (const button of document.querySelectorAll("[data-layer]")) button.onclick = () => choose(Number(button.dataset.layer), 0);
for (const button of document.querySelectorAll("[data-step]")) {
  button.onclick = () => {
    const number = data.layers[at.layer].units.length;
    choose(at.layer, (at.unit + Number(button.dataset.step) + number) % number);
  };
}

if (data.layers && data.layers.length) {
  const first = data.layers[0].units.findIndex(unit => !unit.dead);
  show(...(chosen() || [0, Math.max(0, first)]));
}
