// What both pages have: the theme, and the question for a token.
import { setToken } from "./api.js";

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("hilnas-theme", name);
}

export function startTheme() {
  const asked = new URLSearchParams(location.search).get("theme");
  theme(asked || localStorage.getItem("hilnas-theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
}

export async function askForToken() {
  const dialog = document.getElementById("token-dialog");
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  setToken(document.getElementById("token").value.trim());
}
