const seen = [];
for (const station of ["alpha", "beta", "gamma"]) {
  try {
    portcall.go(station); // the next line runs there
  } catch (error) {
    console.log(`${station} cannot be reached: error ${error.errno}`);
    continue;
  }
  seen.push(portcall.here());
  console.log(`stop ${seen.length}: ${portcall.here()}`);
}
portcall.report("route", seen.join(" "));
