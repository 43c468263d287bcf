// What can have the focus, or is a landmark, and has no name for a screen reader.
() => {
  const nameOf = (e) => (e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') || '').split(' ').filter(Boolean)
    .map((id) => document.getElementById(id)?.textContent).join(' ') || [...(e.labels ?? [])].map((l) => l.textContent).join(' ')
    || e.textContent || e.title || '').trim()
  return [...document.querySelectorAll('a, button, input, select, summary, dialog, [tabindex="0"], [role=meter], nav, section')]
    .filter((e) => !nameOf(e)).map((e) => e.outerHTML.slice(0, 120))
}
