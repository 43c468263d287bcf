// Evaluated after the script, as a module: promises and timers go on, until nothing is left to be done.
await new Promise(() => {});
