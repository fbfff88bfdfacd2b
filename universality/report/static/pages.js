"use strict";
(() => {
  const search = document.getElementById("search");
  const follow = (rel) => { const link = document.querySelector(`a[rel="${rel}"]`); if (link) link.click(); return Boolean(link); };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const done = { ArrowLeft: () => follow("prev"), ArrowRight: () => follow("next"), "/": () => (search ? (search.focus(), true) : follow("index")) }[event.key];
    if (done && done()) event.preventDefault();
  });
  if (!search) return;
  const items = [...document.querySelectorAll(".list li")];
  const said = document.getElementById("found");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items) {
      const fits = words.every((word) => item.dataset.words.includes(word));
      item.hidden = !fits;
      shown += fits;
    }
    for (const part of document.querySelectorAll("section[data-layer]")) part.hidden = !part.querySelector("li:not([hidden])");
    said.textContent = `${shown} of ${items.length} units`;
  };
  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => {
    const first = items.find((item) => !item.hidden);
    if (event.key === "Enter" && first) first.querySelector("a").click();
  });
  filter();
  if (location.hash === "#search") search.focus();
})();
