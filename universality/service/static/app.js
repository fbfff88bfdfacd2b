"use strict";
(() => {
  // The theme is set before anything is drawn.
  const root = document.documentElement;
  const themes = ["system", "light", "dark"];
  let theme = "system";
  try { theme = localStorage.getItem("theme") || "system"; } catch { /* storage may be off */ }
  const dress = () => { if (theme === "system") root.removeAttribute("data-theme"); else root.dataset.theme = theme; };
  dress();

  const follow = (rel) => { const link = document.querySelector(`a[rel="${rel}"]`); if (link) link.click(); return Boolean(link); };
  const places = { r: "/", z: "/zoo", c: "/compare", s: "/jobs/new", j: "/jobs", l: "/lists" };
  let going = false;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    if (going && places[event.key]) { going = false; event.preventDefault(); location.href = places[event.key]; return; }
    going = event.key === "g";
    if (event.key === "/") { document.getElementById("search").focus(); event.preventDefault(); return; }
    if (event.target.closest(".scroll")) return; // arrows scroll a wide table
    if ((event.key === "ArrowLeft" && follow("prev")) || (event.key === "ArrowRight" && follow("next"))) event.preventDefault();
  });

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => { button.textContent = `Theme: ${theme}`; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      try { localStorage.setItem("theme", theme); } catch { /* storage may be off */ }
      dress();
      name();
    });
    filterLists(document);
  });

  // Lists that are filtered as one types: <input data-filters="ID"> hides the children of ID whose data-words lack a word.
  function filterLists(within) {
    for (const input of within.querySelectorAll("input[data-filters]")) {
      const list = document.getElementById(input.dataset.filters);
      input.addEventListener("input", () => {
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        for (const item of list.querySelectorAll("[data-words]")) {
          // What is ticked stays in sight.
          const fits = words.every((word) => item.dataset.words.includes(word)) || Boolean(item.querySelector(":checked"));
          item.hidden = !fits;
          shown += fits;
        }
        document.getElementById("status").textContent = `${shown} shown`;
      });
    }
  }

  // What htmx could not get is said where a screen reader hears it, and on the page.
  document.addEventListener("htmx:responseError", (event) => {
    const place = document.querySelector("[data-errors]");
    let said = `The server answered ${event.detail.xhr.status}.`;
    try { said = JSON.parse(event.detail.xhr.responseText).error || said; } catch { /* no JSON: a proxy's own page */ }
    document.getElementById("status").textContent = said;
    if (place) { place.textContent = said; place.hidden = false; }
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const place = document.querySelector("[data-errors]");
    if (place && event.detail.successful) place.hidden = true;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    const count = document.getElementById("count");
    if (count && event.detail.target.id === "rows") document.getElementById("status").textContent = count.textContent;
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("select[data-go]")) event.target.form.requestSubmit();
  });
})();
