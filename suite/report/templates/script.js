// Comfort only: everything can be read without it. Text is moved as nodes, never as markup.
(() => {
  const tip = document.getElementById("tip");
  const cells = [...document.querySelectorAll(".matrix tbody button")];
  const hide = () => { tip.hidden = true; };
  const show = (button) => {
    const why = document.getElementById(button.getAttribute("popovertarget"));
    if (!why || (why.matches && why.matches(":popover-open"))) return;
    tip.replaceChildren(...[...why.cloneNode(true).children].filter((n) => !n.classList.contains("shut")));
    tip.hidden = false;
    const at = button.getBoundingClientRect(), box = tip.getBoundingClientRect();
    const x = Math.min(Math.max(8, at.left + at.width / 2 - box.width / 2), innerWidth - box.width - 8);
    const below = at.bottom + 8 + box.height < innerHeight;
    tip.style.left = `${x}px`;
    tip.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - box.height - 8)}px`;
  };
  cells.forEach((button, n) => {
    button.tabIndex = n === 0 ? 0 : -1;
    button.addEventListener("pointerenter", (e) => { if (e.pointerType === "mouse") show(button); });
    button.addEventListener("pointerleave", hide);
    button.addEventListener("focus", () => {
      cells.forEach((b) => { b.tabIndex = b === button ? 0 : -1; });
      if (button.matches(":focus-visible")) show(button);
    });
    button.addEventListener("blur", hide);
    button.addEventListener("click", hide);
  });
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape") hide();
    const from = document.activeElement && document.activeElement.closest(".matrix tbody td");
    const move = moves[e.key];
    if (!from || !move || e.altKey || e.ctrlKey || e.metaKey) return;
    const rows = [...document.querySelectorAll(".matrix tbody tr")].filter((r) => r.offsetParent && r.querySelector("button"));
    const widest = Math.max(...rows.map((r) => Number(r.lastElementChild.dataset.c || 0)));
    let row = rows.indexOf(from.parentElement), column = Number(from.dataset.c);
    for (;;) {
      row += move[0];
      column += move[1];
      if (!rows[row] || column < 1 || column > widest) return;
      const button = rows[row].querySelector(`td[data-c="${column}"] button`);
      if (button) { e.preventDefault(); button.focus(); return; }
    }
  });
  addEventListener("beforeprint", () => document.querySelectorAll(".troubles details").forEach((d) => { d.open = true; }));
  const opened = () => {
    const at = location.hash && document.getElementById(location.hash.slice(1));
    if (at && at.tagName === "DETAILS") at.open = true;
  };
  addEventListener("hashchange", opened);
  opened();
  const copy = document.getElementById("copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(copy.previousElementSibling.textContent);
      copy.textContent = "copied";
    });
  }
})();
