import { fork, go, here, log, me, recv, report, send, sleep } from "portcall";

const seen: string[] = [];

function note(event: string): void {
  seen.push(event + "@" + here());
}

export function portcall_on_departing(): void { note("departing"); }
export function portcall_on_arrived(): void { note("arrived"); }
export function portcall_on_sleeping(): void { note("sleeping"); }
export function portcall_on_woken(): void { note("woken"); }
export function portcall_on_cloned(): void { note("cloned"); }
export function portcall_on_message(): void { note("message"); }
export function portcall_on_budget_low(): void { note("budget_low"); }
export function portcall_on_retracted(): void { note("retracted"); }

go("beta");
sleep(10);
send(me(), String.UTF8.encode("hello"));
recv();
if (fork(1) == 0) {
  log("ready");
  while (here() != "home") {}
  report("seen", seen.join(" "));
}
