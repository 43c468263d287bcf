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
        pub fn select(
            sender: *const u8,
            size: usize,
            topic: *const u8,
            topic_size: usize,
            buffer: *mut u8,
            capacity: usize,
            timeout_ms: i32,
        ) -> i32;
        pub fn about(buffer: *mut u8, capacity: usize) -> i32;
        pub fn ask(
            to: *const u8,
            size: usize,
            topic: *const u8,
            topic_size: usize,
            question: *const u8,
            question_size: usize,
            timeout_ms: i32,
            id: *mut u8,
            capacity: usize,
        ) -> i32;
        pub fn answer(id: *const u8, size: usize, buffer: *mut u8, capacity: usize, timeout_ms: i32) -> i32;
        pub fn subscribe(topic: *const u8, size: usize) -> i32;
        pub fn unsubscribe(topic: *const u8, size: usize) -> i32;
        pub fn publish(topic: *const u8, size: usize, message: *const u8, message_size: usize, everywhere: i32) -> i32;
        pub fn offer(service: *const u8, size: usize, attributes: *const u8, attributes_size: usize) -> i32;
        pub fn withdraw(service: *const u8, size: usize) -> i32;
        pub fn find(
            service: *const u8,
            size: usize,
            label: *const u8,
            label_size: usize,
            everywhere: i32,
            buffer: *mut u8,
            capacity: usize,
        ) -> i32;
        pub fn send_here(to: *const u8, size: usize, message: *const u8, message_size: usize) -> i32;
        pub fn accept(buffer: *mut u8, capacity: usize, timeout_ms: i32) -> i32;
        pub fn reply(id: *const u8, size: usize, response: *const u8, response_size: usize) -> i32;
        pub fn sleep(ms: u32) -> i32;
        pub fn clone(id: *mut u8, capacity: usize) -> i32;
        pub fn fork(count: u32, ids: *mut u8, capacity: usize) -> i32;
        pub fn notice(buffer: *mut u8, capacity: usize) -> i32;
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

/// A message to this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub body: Vec<u8>,
    /// An agent's id or a station's name.
    pub sender: String,
    /// May be empty.
    pub topic: String,
    /// What `reply` takes; empty if the message is no question.
    pub id: String,
}

impl Message {
    /// Answer it, if it is a question, here or at a later station: once.
    pub fn reply(&self, answer: impl AsRef<[u8]>) -> Result<()> {
        reply(&self.id, answer)
    }
}

/// The next message of one sender and about one topic (empty: any). With a timeout, `ErrorKind::TimedOut` when none came.
pub fn receive(from: &str, topic: &str, timeout: Option<Duration>) -> Result<Message> {
    let ms = milliseconds(timeout);
    let body = filled(|buffer, capacity| unsafe {
        imports::select(from.as_ptr(), from.len(), topic.as_ptr(), topic.len(), buffer, capacity, ms)
    })?;
    let known = text(|buffer, capacity| unsafe { imports::about(buffer, capacity) })?;
    let mut parts = known.split('\n').map(String::from);
    let mut part = || parts.next().unwrap_or_default();
    Ok(Message { body, sender: part(), topic: part(), id: part() })
}

/// A question that was asked. Its answer can be taken here or at a later station, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: String,
}

impl Question {
    /// The answer. `ErrorKind::TimedOut` when none came in time; `EHOSTUNREACH` when the question could not be delivered.
    pub fn answer(&self, timeout: Option<Duration>) -> Result<Vec<u8>> {
        let ms = milliseconds(timeout);
        filled(|buffer, capacity| unsafe {
            imports::answer(self.id.as_ptr(), self.id.len(), buffer, capacity, ms)
        })
    }
}

/// What the agent `to` answers to a message, about a topic (may be empty), within `timeout` (None: 7 days).
pub fn ask(to: &str, topic: &str, message: impl AsRef<[u8]>, timeout: Option<Duration>) -> Result<Vec<u8>> {
    ask_later(to, topic, message, timeout)?.answer(None)
}

/// Ask the agent `to`, and go on. An answer that comes after `timeout` (None: 7 days) is dropped.
pub fn ask_later(to: &str, topic: &str, message: impl AsRef<[u8]>, timeout: Option<Duration>) -> Result<Question> {
    let message = message.as_ref();
    let ms = milliseconds(timeout);
    let id = text(|buffer, capacity| unsafe {
        imports::ask(
            to.as_ptr(),
            to.len(),
            topic.as_ptr(),
            topic.len(),
            message.as_ptr(),
            message.len(),
            ms,
            buffer,
            capacity,
        )
    })?;
    Ok(Question { id })
}

/// Receive what is published to a topic, from now on and wherever this agent goes.
pub fn subscribe(topic: &str) -> Result<()> {
    checked(unsafe { imports::subscribe(topic.as_ptr(), topic.len()) }).map(|_| ())
}

/// Receive what is published to a topic no more.
pub fn unsubscribe(topic: &str) -> Result<()> {
    checked(unsafe { imports::unsubscribe(topic.as_ptr(), topic.len()) }).map(|_| ())
}

/// Where other agents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Here = 0,
    Everywhere = 1,
}

/// Send a message to the other agents here, or everywhere, that subscribe to a topic; how many got it here.
pub fn publish(topic: &str, message: impl AsRef<[u8]>, place: Where) -> Result<usize> {
    let message = message.as_ref();
    checked(unsafe {
        imports::publish(topic.as_ptr(), topic.len(), message.as_ptr(), message.len(), place as i32)
    })
}

/// Offer a service to other agents while this one is here; `attributes` is what they are told of it.
pub fn offer(service: &str, attributes: &str) -> Result<()> {
    let (told, size) = (attributes.as_ptr(), attributes.len());
    checked(unsafe { imports::offer(service.as_ptr(), service.len(), told, size) }).map(|_| ())
}

/// Offer a service no more.
pub fn withdraw(service: &str) -> Result<()> {
    checked(unsafe { imports::withdraw(service.as_ptr(), service.len()) }).map(|_| ())
}

/// An agent that was found, and what it says of its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub station: String,
    pub label: String,
    pub attributes: String,
}

/// The other agents here, or everywhere, that offer a service and have a label (empty: any).
pub fn find(service: &str, label: &str, place: Where) -> Result<Vec<Found>> {
    let lines = text(|buffer, capacity| unsafe {
        imports::find(
            service.as_ptr(),
            service.len(),
            label.as_ptr(),
            label.len(),
            place as i32,
            buffer,
            capacity,
        )
    })?;
    let found = |line: &str| {
        let mut parts = line.split('\t').map(String::from);
        let mut part = || parts.next().unwrap_or_default();
        Found { id: part(), station: part(), label: part(), attributes: part() }
    };
    Ok(lines.lines().map(found).collect())
}

/// A local channel to an agent that is at this station: what is sent on it goes to that agent while it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub agent: String,
}

impl Channel {
    /// Send it a message; `EHOSTUNREACH` when it is not here any more.
    pub fn send(&self, message: impl AsRef<[u8]>) -> Result<()> {
        let (to, message) = (&self.agent, message.as_ref());
        checked(unsafe { imports::send_here(to.as_ptr(), to.len(), message.as_ptr(), message.len()) }).map(|_| ())
    }

    /// Its next message. With a timeout, `ErrorKind::TimedOut` when none came.
    pub fn receive(&self, timeout: Option<Duration>) -> Result<Message> {
        receive(&self.agent, "", timeout)
    }
}

/// A local channel to another agent that is here, by its id; see `find`.
pub fn meet(agent: &str) -> Channel {
    Channel { agent: agent.to_string() }
}

/// The next request of a client, as `message/http`; its header `portcall-request` is the id for `reply`.
/// With a timeout, `ErrorKind::TimedOut` when none came.
pub fn accept(timeout: Option<Duration>) -> Result<Vec<u8>> {
    let ms = milliseconds(timeout);
    filled(|buffer, capacity| unsafe { imports::accept(buffer, capacity, ms) })
}

/// Answer a request: a response of HTTP/1.1, without `Content-Length`. Or answer the question of an agent: see `Message`.
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

/// What this station has to tell by itself, once: `retracted`, `budget_low cpu`, `budget_low messages`; empty if there is
/// nothing. An agent that exports `portcall_on_retracted` or `portcall_on_budget_low` is told by these.
pub fn notice() -> String {
    text(|buffer, capacity| unsafe { imports::notice(buffer, capacity) }).unwrap_or_default()
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
