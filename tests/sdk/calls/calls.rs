use portcall::*;
use std::io::Result;
use std::time::Duration;

fn tell(line: String) {
    log(Level::Info, &line);
}

fn attempt<T>(what: &str, result: Result<T>) {
    match result {
        Ok(_) => tell(format!("{what} went well")),
        Err(error) => tell(format!("{what} error {}", error.raw_os_error().unwrap())),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn main() {
    tell(format!("{} {} [{}]", here(), me(), next_stop()));
    tell(text(call("clock", "please").unwrap()));
    tell(call("large", "").unwrap().len().to_string());
    attempt("oracle", call("oracle", ""));
    tell(format!("{} [{}]", lookup("clock").unwrap().join(" "), lookup("oracle").unwrap().join(" ")));
    send("friend", "hi").unwrap();
    attempt("send", send("nobody", "hi"));
    tell(format!("{} from {}", text(recv(None).unwrap()), sender()));
    tell(format!("{} from {}", recv(None).unwrap().len(), sender()));
    attempt("recv", recv(Some(Duration::from_millis(250))));
    tell(text(accept(None).unwrap())[..3].to_string());
    reply("alpha.7", "hi").unwrap();
    attempt("reply", reply("alpha.7", "hi"));
    attempt("accept", accept(Some(Duration::from_millis(250))));
    let message = receive("friend", "news", None).unwrap();
    tell(format!("{} from {} about {}", text(message.body.clone()), message.sender, message.topic));
    message.reply("ok").unwrap();
    let short = Some(Duration::from_millis(250));
    attempt("receive", receive("", "", short));
    tell(ask("friend", "price?", "how much", Some(Duration::from_secs(30))).unwrap().len().to_string());
    attempt("answer", ask_later("friend", "", "more", short).unwrap().answer(short));
    attempt("ask", ask("nobody", "", "", None));
    subscribe("news").unwrap();
    unsubscribe("news").unwrap();
    assert_eq!(publish("news", "sale", Where::Here).unwrap(), 2);
    assert_eq!(publish("news", "sale", Where::Everywhere).unwrap(), 2);
    offer("shop", "price=12").unwrap();
    withdraw("shop").unwrap();
    for found in find("shop", "books", Where::Everywhere).unwrap() {
        tell(format!("{} {} {} {}", found.id, found.station, found.label, found.attributes));
    }
    assert_eq!(find("", "", Where::Here).unwrap(), []);
    meet("friend").send("hi").unwrap();
    attempt("here", meet("nobody").send("hi"));
    sleep(Duration::from_millis(1500)).unwrap();
    tell(clone().unwrap().unwrap_or_default());
    let (number, ids) = fork(2).unwrap();
    tell(format!("{number} {}", ids.join(" ")));
    assert_eq!(notice(), "");
    report("answer", "42").unwrap();
    attempt("closed", go("closed"));
    attempt("nowhere", go(""));
    attempt("shut", go_wait("shut", Some(Duration::from_millis(250))));
    go("beta").unwrap();
    tell(format!("at {}", here()));
    log(Level::Warning, "careful");
    if here() == "nowhere" {
        panic!("{}", go_at("beta", "entry"));
    }
    exit(5)
}
