//! The calls that an agent makes of its station (ABI version 1 of the imports `portcall`).
//!
//! A call that the station refuses or that fails is an `io::Error` with the station's number, like any other
//! input or output. For the targets `wasm32-wasip1` and, before Rust 1.78, `wasm32-wasi`; no dependencies.

use std::io::{Error, Result};
use std::time::Duration;

mod imports {
    #[link(wasm_import_module = "portcall")]
    extern "C" {
        pub fn go(host: *const u8, size: usize) -> i32;
        pub fn go_wait(host: *const u8, size: usize, wait_ms: i32) -> i32;
        pub fn go_at(host: *const u8, size: usize, entry: *const u8, entry_size: usize) -> i32;
        pub fn here(buffer: *mut u8, capacity: usize) -> i32;
        pub fn me(buffer: *mut u8, capacity: usize) -> i32;
        pub fn next_stop(buffer: *mut u8, capacity: usize) -> i32;
        pub fn call(
            service: *const u8,
            size: usize,
            request: *const u8,
            request_size: usize,
            reply: *mut u8,
            capacity: usize,
        ) -> i32;
        pub fn send(to: *const u8, size: usize, message: *const u8, message_size: usize) -> i32;
        pub fn recv(buffer: *mut u8, capacity: usize, timeout_ms: i32) -> i32;
        pub fn sender(buffer: *mut u8, capacity: usize) -> i32;
        pub fn accept(buffer: *mut u8, capacity: usize, timeout_ms: i32) -> i32;
        pub fn reply(id: *const u8, size: usize, response: *const u8, response_size: usize) -> i32;
        pub fn sleep(ms: u32) -> i32;
        pub fn clone(id: *mut u8, capacity: usize) -> i32;
        pub fn fork(count: u32, ids: *mut u8, capacity: usize) -> i32;
        pub fn report(key: *const u8, size: usize, value: *const u8, value_size: usize) -> i32;
        pub fn log(level: u32, text: *const u8, size: usize) -> i32;
        pub fn lookup(service: *const u8, size: usize, buffer: *mut u8, capacity: usize) -> i32;
        pub fn exit(code: u32) -> !;
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error = 0,
    Warning = 1,
    Info = 2,
    Detail = 3,
}

/// Move to a station, with the whole stack; the next line runs there. An error: this is still the origin.
pub fn go(station: &str) -> Result<()> {
    checked(unsafe { imports::go(station.as_ptr(), station.len()) }).map(|_| ())
}

/// The same; the agent sleeps up to `wait` (None: for ever) while the station cannot be reached or is full.
pub fn go_wait(station: &str, wait: Option<Duration>) -> Result<()> {
    checked(unsafe { imports::go_wait(station.as_ptr(), station.len(), milliseconds(wait)) }).map(|_| ())
}

/// Move to a station without the stack; the export `entry` is called there. Returns only an error.
pub fn go_at(station: &str, entry: &str) -> Error {
    let (host, size) = (station.as_ptr(), station.len());
    match checked(unsafe { imports::go_at(host, size, entry.as_ptr(), entry.len()) }) {
        Ok(_) => unreachable!("a weak migration came back"),
        Err(error) => error,
    }
}

/// The name of this station.
pub fn here() -> String {
    text(|buffer, capacity| unsafe { imports::here(buffer, capacity) }).unwrap_or_default()
}

/// This agent's id.
pub fn me() -> String {
    text(|buffer, capacity| unsafe { imports::me(buffer, capacity) }).unwrap_or_default()
}

/// The itinerary's next stop; empty at its end.
pub fn next_stop() -> String {
    text(|buffer, capacity| unsafe { imports::next_stop(buffer, capacity) }).unwrap_or_default()
}

/// The reply of a service of this station.
pub fn call(service: &str, request: impl AsRef<[u8]>) -> Result<Vec<u8>> {
    let request = request.as_ref();
    filled(|buffer, capacity| unsafe {
        imports::call(service.as_ptr(), service.len(), request.as_ptr(), request.len(), buffer, capacity)
    })
}

/// Hand a message over for delivery to the agent `to`.
pub fn send(to: &str, message: impl AsRef<[u8]>) -> Result<()> {
    let message = message.as_ref();
    checked(unsafe { imports::send(to.as_ptr(), to.len(), message.as_ptr(), message.len()) }).map(|_| ())
}

/// The next message. With a timeout, `ErrorKind::TimedOut` when none came.
pub fn recv(timeout: Option<Duration>) -> Result<Vec<u8>> {
    let ms = milliseconds(timeout);
    filled(|buffer, capacity| unsafe { imports::recv(buffer, capacity, ms) })
}

/// Who sent the message received last: an agent's id or a station's name.
pub fn sender() -> String {
    text(|buffer, capacity| unsafe { imports::sender(buffer, capacity) }).unwrap_or_default()
}

/// The next request of a client, as `message/http`; its header `portcall-request` is the id for `reply`.
/// With a timeout, `ErrorKind::TimedOut` when none came.
pub fn accept(timeout: Option<Duration>) -> Result<Vec<u8>> {
    let ms = milliseconds(timeout);
    filled(|buffer, capacity| unsafe { imports::accept(buffer, capacity, ms) })
}

/// Answer a request: a response of HTTP/1.1, without `Content-Length`.
pub fn reply(id: &str, response: impl AsRef<[u8]>) -> Result<()> {
    let response = response.as_ref();
    checked(unsafe { imports::reply(id.as_ptr(), id.len(), response.as_ptr(), response.len()) }).map(|_| ())
}

/// Sleep; the agent waits as data and holds no thread.
pub fn sleep(time: Duration) -> Result<()> {
    checked(unsafe { imports::sleep(time.as_millis().min(u32::MAX as u128) as u32) }).map(|_| ())
}

/// Become two agents: the new one's id in the original, None in the clone.
pub fn clone() -> Result<Option<String>> {
    let mut id = [0; 1024];
    let original = checked(unsafe { imports::clone(id.as_mut_ptr(), id.len()) })? == 1;
    let size = id.iter().position(|&byte| byte == 0).unwrap_or(id.len());
    Ok(original.then(|| String::from_utf8_lossy(&id[..size]).into_owned()))
}

/// Become `count` agents more, all from here or none: 0 and their ids in the original, 1 to `count` in each of them.
pub fn fork(count: u32) -> Result<(usize, Vec<String>)> {
    let mut ids = [0; 1024];
    let number = checked(unsafe { imports::fork(count, ids.as_mut_ptr(), ids.len()) })?;
    let size = ids.iter().position(|&byte| byte == 0).unwrap_or(ids.len());
    let names = String::from_utf8_lossy(&ids[..size]).into_owned();
    Ok((number, if number > 0 { Vec::new() } else { names.lines().map(String::from).collect() }))
}

/// Append a result to this agent's signed chain.
pub fn report(key: &str, value: impl AsRef<[u8]>) -> Result<()> {
    let value = value.as_ref();
    checked(unsafe { imports::report(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }).map(|_| ())
}

/// One line for the station's log. What is printed goes there too.
pub fn log(level: Level, line: &str) {
    unsafe { imports::log(level as u32, line.as_ptr(), line.len()) };
}

/// Names of stations that offer a service, best first.
pub fn lookup(service: &str) -> Result<Vec<String>> {
    let names = text(|buffer, capacity| unsafe {
        imports::lookup(service.as_ptr(), service.len(), buffer, capacity)
    })?;
    Ok(names.lines().map(String::from).collect())
}

/// End the agent, at once.
pub fn exit(code: u32) -> ! {
    unsafe { imports::exit(code) }
}

fn milliseconds(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |time| time.as_millis().min(i32::MAX as u128) as i32)
}

fn checked(result: i32) -> Result<usize> {
    if result < 0 {
        Err(Error::from_raw_os_error(-result))
    } else {
        Ok(result as usize)
    }
}

/// What `give` puts into a buffer; it is asked again when the first one was too small.
fn filled(give: impl Fn(*mut u8, usize) -> i32) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        let size = checked(give(buffer.as_mut_ptr(), buffer.len()))?;
        let fits = size <= buffer.len();
        buffer.resize(size, 0);
        if fits {
            return Ok(buffer);
        }
    }
}

fn text(give: impl Fn(*mut u8, usize) -> i32) -> Result<String> {
    filled(give).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
