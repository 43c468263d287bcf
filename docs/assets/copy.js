// The copy button of a session in a terminal copies what is typed: no prompts, and nothing that was printed.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-clipboard-target]");
  const code = button && button.closest(".highlight")?.querySelector("pre code");
  if (!code || !code.querySelector(".gp")) return;
  const typed = code.cloneNode(true);
  typed.querySelectorAll(".gp, .go").forEach((part) => part.remove());
  const lines = typed.textContent.split("\n").filter((line) => line.trim());
  button.setAttribute("data-clipboard-text", lines.join("\n") + "\n");
}, true);
