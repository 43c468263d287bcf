use portcall::*;
use std::sync::Mutex;
use std::time::Duration;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(event: &str) {
    SEEN.lock().unwrap().push(format!("{event}@{}", here()));
}

#[no_mangle]
pub extern "C" fn portcall_on_departing() {
    note("departing");
}

#[no_mangle]
pub extern "C" fn portcall_on_arrived() {
    note("arrived");
}

#[no_mangle]
pub extern "C" fn portcall_on_sleeping() {
    note("sleeping");
}

#[no_mangle]
pub extern "C" fn portcall_on_woken() {
    note("woken");
}

#[no_mangle]
pub extern "C" fn portcall_on_cloned() {
    note("cloned");
}

#[no_mangle]
pub extern "C" fn portcall_on_message() {
    note("message");
}

#[no_mangle]
pub extern "C" fn portcall_on_budget_low() {
    note("budget_low");
}

#[no_mangle]
pub extern "C" fn portcall_on_retracted() {
    note("retracted");
}

fn main() -> std::io::Result<()> {
    go("beta")?;
    sleep(Duration::from_millis(10))?;
    send(&me(), "hello")?;
    recv(None)?;
    if fork(1)?.0 != 0 {
        return Ok(());
    }
    log(Level::Info, "ready");
    while here() != "home" {}
    let seen = SEEN.lock().unwrap().join(" ");
    report("seen", seen)
}
