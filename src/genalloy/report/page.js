"use strict";
// Sorting, and paper without folded parts; without scripts the table stays grouped by family.
(function () {
  var table = document.getElementById("comparison");
  var bodies = Array.prototype.slice.call(table.querySelectorAll("tbody[data-models]"));
  var current = null, closed = [];

  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (d) { d.open = true; });
  });
  window.addEventListener("afterprint", function () { closed.forEach(function (d) { d.open = false; }); });
  if (!bodies.length) return;
  document.documentElement.classList.add("js");
  var home = bodies.map(function (b) { return Array.prototype.slice.call(b.querySelectorAll("tr[data-row]")); });
  var flat = home.reduce(function (a, b) { return a.concat(b); }, []);
  var place = new Map(flat.map(function (row, i) { return [row, i]; }));

  function rank(row, column) {
    var cell = row.cells[column];
    return cell && cell.dataset.rank ? Number(cell.dataset.rank) : 1e6;
  }
  function say(words) { document.getElementById("sorted").textContent = words; }
  function restore() {
    bodies.forEach(function (b, i) { home[i].forEach(function (row) { b.appendChild(row); }); });
  }
  table.querySelectorAll(".sorter").forEach(function (button) {
    button.addEventListener("click", function () {
      var column = Number(button.dataset.column);
      table.querySelectorAll("th[aria-sort]").forEach(function (th) { th.removeAttribute("aria-sort"); });
      restore();
      if (current === column) {
        current = null;
        table.classList.remove("sorted");
        say("Grouped by family");
        return;
      }
      current = column;
      table.classList.add("sorted");
      button.parentElement.setAttribute("aria-sort", button.dataset.order);
      say("Sorted by " + button.lastElementChild.textContent + ", best first");
      flat.slice().sort(function (a, b) {
        return rank(a, column) - rank(b, column) || place.get(a) - place.get(b);
      }).forEach(function (row) { bodies[0].appendChild(row); });
    });
  });
})();
