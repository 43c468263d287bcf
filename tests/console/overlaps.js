// Places on the map that lie on each other, or beyond its edge.
() => {
  const map = document.querySelector('.map').getBoundingClientRect()
  const places = [...document.querySelectorAll('.place')].map((each) => ({
    name: each.getAttribute('aria-label'), box: each.getBoundingClientRect(), ground: each.querySelector('.ground').getBoundingClientRect()}))
  const found = []
  for (const one of places) {
    if (one.box.left < map.left - 1 || one.box.right > map.right + 1 || one.box.top < map.top - 1 || one.box.bottom > map.bottom + 1) found.push([one.name, 'the edge'])
    for (const other of places) {
      const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
      if (one !== other && over(one.ground, other.box)) {
        const far = Math.hypot(one.ground.x - other.ground.x, one.ground.y - other.ground.y)
        if (far < one.ground.width) found.push([one.name, other.name])
      }
    }
  }
  return found
}
