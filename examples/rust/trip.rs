use portcall::{go, here, report};

fn main() {
    let mut seen = Vec::new();
    for station in ["alpha", "beta", "gamma"] {
        if let Err(error) = go(station) {
            println!("{station} cannot be reached: error {}", error.raw_os_error().unwrap_or(0));
            continue;
        }
        seen.push(here());
        println!("stop {}: {}", seen.len(), here());
    }
    report("route", seen.join(" ")).expect("the station takes results");
}
