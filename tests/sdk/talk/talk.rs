use portcall::*;
use std::io::Result;
use std::time::Duration;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shop() -> Result<()> {
    subscribe("news")?;
    offer("shop", "price=12")?;
    let question = receive("", "price?", None)?;
    question.reply(format!("{}: 12", text(&question.body)))?;
    let news = receive("", "news", None)?;
    unsubscribe("news")?;
    let here = meet(&question.sender).receive(None)?;
    withdraw("shop")?;
    let late = receive("", "", None)?;
    go("beta")?;
    late.reply(format!("from {}", portcall::here()))?;
    let heard = format!("{}|{} about {}|{}", text(&question.body), text(&news.body), news.topic, text(&here.body));
    report("heard", heard)?;
    report("told", receive(&question.sender, "", None)?.body)
}

fn customer() -> Result<()> {
    let pause = Duration::from_millis(10);
    let found = loop {
        match find("shop", "", Where::Here)?.pop() {
            Some(found) => break found,
            None => sleep(pause)?,
        }
    };
    let in_time = Some(Duration::from_secs(30));
    let price = ask(&found.id, "price?", "nuts", in_time)?;
    assert_eq!(publish("news", "sale", Where::Here)?, 1);
    let channel = meet(&found.id);
    channel.send("I am here")?;
    while !find("shop", "", Where::Here)?.is_empty() {
        sleep(pause)?;
    }
    let late = ask_later(&found.id, "", "late?", in_time)?;
    go("beta")?;
    let answer = late.answer(None)?;
    go("home")?;
    let gone = channel.send("still?").unwrap_err().raw_os_error().unwrap();
    let told = format!("{}|{}|{}|{}|{}", found.station, found.attributes, text(&price), text(&answer), gone);
    send(&found.id, told)
}

fn main() -> Result<()> {
    if fork(1)?.0 == 0 {
        shop()
    } else {
        customer()
    }
}
