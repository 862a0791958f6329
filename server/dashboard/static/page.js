// Shared by all pages: the theme, and the token dialog.
import { setToken } from "./api.js";

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("hilnas-theme", name);
}

export function startTheme() {
  const requested = new URLSearchParams(location.search).get("theme");
  theme(requested || localStorage.getItem("hilnas-theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
}

export async function askForToken() {
  const dialog = document.getElementById("token-dialog");
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  setToken(document.getElementById("token").value.trim());
}
