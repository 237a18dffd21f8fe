// Runs before the first paint, so that a page never flashes in the other theme.
(() => {
  const chosen = localStorage.getItem("cacheproxy-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
