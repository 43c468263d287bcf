import { go, here, log, report } from "portcall";

const seen: string[] = [];
const stations = ["alpha", "beta", "gamma"];
for (let i = 0; i < stations.length; i++) {
  const error = go(stations[i]);
  if (error < 0) {
    log(`${stations[i]} cannot be reached: error ${-error}`);
    continue;
  }
  seen.push(here());
  log(`stop ${seen.length}: ${here()}`);
}
report("route", seen.join(" "));
