// Light or dark: as the system says until the button is pressed, then as chosen, here and on the next visit.
const root = document.documentElement;
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const THEME_KEY = "radixcache-report-theme";

const stored = () => {
  try {
    return window.localStorage.getItem(THEME_KEY);
  } catch {
    return null; // a page from a file may have no storage
  }
};

const store = (theme) => {
  try {
    window.localStorage.setItem(THEME_KEY, theme);
  } catch {
    // the choice then lasts as long as the page
  }
};

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

// `onPrint` draws all there is.
const startTheme = (onPrint) => {
  const button = document.getElementById("theme");
  const known = stored();
  if (known === "dark" || known === "light") root.dataset.theme = known;
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    store(root.dataset.theme);
    show();
  });
  systemDark.addEventListener("change", show);
  show();
  // Paper is white.
  let before;
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    onPrint();
  });
  window.addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
  });
};
