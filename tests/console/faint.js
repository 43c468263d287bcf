// Each text with less contrast to what is behind it than WCAG 2.2 wants (1.4.3).
() => {
  const parse = (c) => { const m = /color\(srgb ([\d.]+) ([\d.]+) ([\d.]+)(?: \/ ([\d.]+))?/.exec(c)
    if (m) return [m[1] * 255, m[2] * 255, m[3] * 255, m[4] ?? 1].map(Number)
    const n = c.match(/[\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1] }
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b) }
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > .99) return c } return [255, 255, 255, 1] }
  const found = []
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility() || e.closest('svg, .unseen, .skip, noscript, option, button')) continue
    const a = light(parse(getComputedStyle(e).color)), b = light(behind(e))
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
    if (ratio < 4.5) found.push([ratio.toFixed(2), e.className, walk.currentNode.textContent.slice(0, 40)])
  }
  return found
}
