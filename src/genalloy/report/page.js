"use strict";
// Sorting only; without scripts the table stays grouped by family.
(function () {
  var table = document.getElementById("comparison");
  var bodies = Array.prototype.slice.call(table.querySelectorAll("tbody[data-models]"));
  if (!bodies.length) return;
  document.documentElement.classList.add("js");
  var home = bodies.map(function (b) { return Array.prototype.slice.call(b.querySelectorAll("tr[data-row]")); });
  var flat = home.reduce(function (a, b) { return a.concat(b); }, []);
  var place = new Map(flat.map(function (row, i) { return [row, i]; }));
  var current = null;

  function rank(row, column) {
    var cell = row.cells[column];
    return cell && cell.dataset.rank ? Number(cell.dataset.rank) : 1e6;
  }
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
        return;
      }
      current = column;
      table.classList.add("sorted");
      button.parentElement.setAttribute("aria-sort", "other");
      flat.slice().sort(function (a, b) {
        return rank(a, column) - rank(b, column) || place.get(a) - place.get(b);
      }).forEach(function (row) { bodies[0].appendChild(row); });
    });
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
})();
