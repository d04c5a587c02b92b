// Airflow shows these pages in a frame whose sandbox keeps links inside it. Links that lead elsewhere are
// followed by Airflow's own window instead; pages of other servers open beside it.
"use strict";
(() => {
  const framed = window.parent !== window;
  const root = document.documentElement;
  root.classList.toggle("framed", framed);

  // Airflow remembers its light or dark mode under this key.
  const mode = () => {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") root.dataset.mode = chosen;
    else delete root.dataset.mode;
  };
  mode();
  window.addEventListener("storage", mode);

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.leave");
    if (!framed || !link || event.defaultPrevented) return;
    try {
      const outside = window.parent.document;
      const twin = outside.createElement("a");
      twin.href = link.href;
      if (link.origin !== location.origin || event.ctrlKey || event.metaKey) twin.target = "_blank";
      twin.rel = "noopener noreferrer";
      outside.body.append(twin);
      twin.click();
      twin.remove();
      event.preventDefault();
    } catch {
      // a parent of another origin: the link stays as it is
    }
  });
})();
