//! Events as a command line tells them.

use std::net::SocketAddr;

use skep::sim::{Socket, SocketCall, SocketId};

/// The forms of events, for `--help` and for errors.
pub(in crate::run) const FORMS: &str = "\
Events:
  tracepoint:CATEGORY/NAME(FIELD=VALUE,...)   raw_tracepoint:NAME(VALUE,...)
  call:FUNCTION(VALUE,...)=RETURNED           kprobes, fentry, fmod_ret, fexit, kretprobes
  syscall:NAME(VALUE,...)=RETURNED            and all tracepoints of the call
  lsm:HOOK(VALUE,...)    uprobe:PATH:FUNCTION(VALUE,...)=RETURNED    perf:ADDRESS
  receive:DEVICE    transmit:DEVICE           the packets of --hex, --data or --pcap
  bind:[udp:]ADDRESS:PORT                     also connect, sendmsg, recvmsg, getpeername, getsockname
  socket:tcp    socket:udp                    a new socket
  setsockopt:LEVEL/NAME(VALUE)                getsockopt:LEVEL/NAME, by their numbers
  sysctl:NAME    sysctl:NAME=VALUE            read and written
  device:c/MAJOR/MINOR/ACCESS                 c or b; of r, w and m

A VALUE is a number, or a text in double quotes, which stands for its address.";

/// A value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Words {
    Tracepoint(String, String),
    RawTracepoint(String),
    Call(String),
    Syscall(String),
    Lsm(String),
    Uprobe(String, String),
    Perf(u64),
    Receive(String),
    Transmit(String),
    Socket { call: fn(SocketId, SocketAddr) -> SocketCall, datagram: bool, address: SocketAddr },
    Create(Box<Socket>),
    Option { level: i32, name: i32 },
    Sysctl { name: String, new: Option<String> },
    Device { block: bool, major: u32, minor: u32, access: String },
}

/// An event.
#[derive(Clone, Debug)]
pub(in crate::run) struct Happening {
    /// As it was told.
    pub(super) text: String,
    pub(super) words: Words,
    /// Arguments, with the names that fields have.
    pub(super) args: Vec<(String, Value)>,
    pub(super) returns: Option<Value>,
}

impl Happening {
    /// As the command line told it.
    pub(in crate::run) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is about packets.
    pub(in crate::run) fn has_packet(&self) -> bool {
        matches!(self.words, Words::Receive(_) | Words::Transmit(_))
    }
}

/// Reads an event. The error says what is wrong and what is right.
pub(super) fn parse(text: &str) -> Result<Happening, String> {
    let wrong = |why: &str| format!("--event {text}: {why}; `skep run --help` lists the forms");
    let no_kind = |why: &str| format!("--event {text}: {why}\n\n{FORMS}");
    let (kind, rest) = text.split_once(':').ok_or_else(|| no_kind("no kind and colon at the start"))?;
    let (head, args, returns) =
        if kind == "sysctl" { (rest, Vec::new(), None) } else { divide(rest).map_err(|why| wrong(&why))? };
    let named = |what: &str| {
        if head.is_empty() { Err(wrong(&format!("no {what} behind the colon"))) } else { Ok(head.to_owned()) }
    };
    let words = match kind {
        "tracepoint" | "tp" => {
            let (category, name) =
                head.split_once('/').ok_or_else(|| wrong("give category and name: sched/sched_switch"))?;
            if args.iter().any(|(field, _)| field.is_empty()) {
                return Err(wrong("give each field its name: prev_pid=1"));
            }
            Words::Tracepoint(category.to_owned(), name.to_owned())
        }
        "raw_tracepoint" | "raw_tp" | "tp_btf" => Words::RawTracepoint(named("tracepoint")?),
        "call" | "kprobe" | "kretprobe" | "fentry" | "fexit" | "fmod_ret" => Words::Call(named("function")?),
        "syscall" => Words::Syscall(named("system call")?),
        "lsm" => Words::Lsm(named("hook")?),
        "uprobe" | "uretprobe" => {
            let (path, function) =
                head.rsplit_once(':').ok_or_else(|| wrong("give path and function: /bin/bash:readline"))?;
            Words::Uprobe(path.to_owned(), function.to_owned())
        }
        "perf" => Words::Perf(number(head).map_err(|why| wrong(&why))?.cast_unsigned()),
        "receive" => Words::Receive(named("device")?),
        "transmit" => Words::Transmit(named("device")?),
        "socket" => match head {
            "tcp" => Words::Create(Box::new(Socket::tcp(([0, 0, 0, 0], 0).into()))),
            "udp" => Words::Create(Box::new(Socket::udp(([0, 0, 0, 0], 0).into()))),
            "tcp6" => Words::Create(Box::new(Socket::tcp(([0; 16], 0).into()))),
            "udp6" => Words::Create(Box::new(Socket::udp(([0; 16], 0).into()))),
            _ => return Err(wrong("a socket is tcp, udp, tcp6 or udp6")),
        },
        "setsockopt" | "getsockopt" => {
            let (level, name) = head.split_once('/').ok_or_else(|| wrong("give level and name: 1/36"))?;
            let number = |text| number(text).map(|number| number as i32).map_err(|why| wrong(&why));
            if (kind == "setsockopt") != (args.len() == 1) {
                return Err(wrong("setsockopt has one value in parentheses, getsockopt none"));
            }
            Words::Option { level: number(level)?, name: number(name)? }
        }
        "sysctl" => {
            let (name, new) = match head.split_once('=') {
                Some((name, new)) => (name, Some(new.to_owned())),
                None => (head, None),
            };
            Words::Sysctl { name: name.trim_matches('/').to_owned(), new }
        }
        "device" => {
            let parts: Vec<&str> = head.split('/').collect();
            let &[class @ ("b" | "c"), major, minor, access] = parts.as_slice() else {
                return Err(wrong("give class, numbers and access: c/1/3/rw"));
            };
            let number = |text: &str| text.parse().map_err(|_| wrong(&format!("`{text}` is no number")));
            if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
                return Err(wrong("access is of r, w and m"));
            }
            let (major, minor) = (number(major)?, number(minor)?);
            Words::Device { block: class == "b", major, minor, access: access.to_owned() }
        }
        _ => {
            let call = match kind {
                "bind" => SocketCall::bind,
                "connect" => SocketCall::connect,
                "sendmsg" => SocketCall::send,
                "recvmsg" => SocketCall::receive,
                "getpeername" => SocketCall::peer_name,
                "getsockname" => SocketCall::socket_name,
                _ => return Err(no_kind(&format!("there is no kind of event `{kind}`"))),
            };
            let message = matches!(kind, "sendmsg" | "recvmsg");
            let (datagram, address) = match head.split_once(':') {
                Some(("udp", address)) => (true, address),
                Some(("tcp", address)) => (false, address),
                _ => (message, head),
            };
            let address = address.parse().map_err(|_| {
                wrong(&format!("`{address}` is no address with a port: 10.0.0.1:80, [fc00::1]:80"))
            })?;
            Words::Socket { call, datagram, address }
        }
    };
    let takes_values = matches!(
        words,
        Words::Tracepoint(..)
            | Words::RawTracepoint(_)
            | Words::Call(_)
            | Words::Syscall(_)
            | Words::Lsm(_)
            | Words::Uprobe(..)
            | Words::Option { .. }
    );
    if !args.is_empty() && !takes_values {
        return Err(wrong(&format!("{kind} takes no values in parentheses")));
    }
    let returns_something = matches!(words, Words::Call(_) | Words::Syscall(_) | Words::Uprobe(..));
    if returns.is_some() && !returns_something {
        return Err(wrong(&format!("{kind} returns nothing")));
    }
    Ok(Happening { text: text.to_owned(), words, args, returns })
}

/// A number as C writes it.
fn number(text: &str) -> Result<i64, String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let value = parsed.map_err(|error| format!("`{text}`: {error}"))?.cast_signed();
    Ok(if negative { value.wrapping_neg() } else { value })
}

fn value(text: &str) -> Result<Value, String> {
    match text.strip_prefix('"') {
        Some(rest) => {
            let text = rest.strip_suffix('"').ok_or_else(|| format!("`{text}` has no closing quote"))?;
            Ok(Value::Text(text.to_owned()))
        }
        None => number(text).map(Value::Number).map_err(|why| format!("{why}; texts are in double quotes")),
    }
}

type Parts<'a> = (&'a str, Vec<(String, Value)>, Option<Value>);

/// What is before the parentheses, in them, and behind the sign of equality.
fn divide(text: &str) -> Result<Parts<'_>, String> {
    let Some((head, rest)) = text.split_once('(') else {
        return Ok((text, Vec::new(), None));
    };
    let mut quoted = false;
    let end = rest.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ')' && !quoted
    });
    let (end, _) = end.ok_or("the parentheses are not closed")?;
    let (inside, behind) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
    let returns = match behind.strip_prefix('=') {
        Some(text) => Some(value(text)?),
        None if behind.is_empty() => None,
        None => return Err(format!("`{behind}` behind the parentheses: write =VALUE for what is returned")),
    };
    let mut args = Vec::new();
    let mut quoted = false;
    for part in inside.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    }) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let named = part.split_once('=').filter(|(name, _)| !name.starts_with('"'));
        let (name, text) = named.map_or(("", part), |(name, text)| (name.trim(), text.trim()));
        args.push((name.to_owned(), value(text)?));
    }
    Ok((head, args, returns))
}

#[cfg(test)]
mod tests {
    use super::{Value, Words, parse};

    #[test]
    fn events_are_read() {
        let event = parse(r#"syscall:openat(-100, "/a(b),c", 0x10)=3"#).unwrap();
        assert!(matches!(&event.words, Words::Syscall(name) if name == "openat"));
        let values: Vec<_> = event.args.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(values, [Value::Number(-100), Value::Text("/a(b),c".to_owned()), Value::Number(16)]);
        assert_eq!(event.returns, Some(Value::Number(3)));

        let event = parse("tp:sched/sched_switch(prev_pid=1)").unwrap();
        assert_eq!(event.args, [("prev_pid".to_owned(), Value::Number(1))]);
        let event = parse("connect:udp:[fc00::1]:53").unwrap();
        assert!(matches!(event.words, Words::Socket { datagram: true, address, .. } if address.port() == 53));
        let event = parse("sysctl:net/ipv4/tcp_mem=1 2(3)").unwrap();
        assert!(matches!(&event.words, Words::Sysctl { new: Some(new), .. } if new == "1 2(3)"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, why) in [
            ("receive", "no kind and colon"),
            ("nonsense:1", "no kind of event `nonsense`"),
            ("tp:sched_switch", "give category and name"),
            ("tp:a/b(1)", "give each field its name"),
            ("call:f(1", "not closed"),
            ("call:f(x)", "texts are in double quotes"),
            ("call:f(1)3", "write =VALUE"),
            ("bind:10.0.0.1", "no address with a port"),
            ("device:c/1/3", "give class, numbers and access"),
            ("setsockopt:1/2", "has one value"),
            ("receive:eth0(1)", "takes no values"),
            ("tp:sched/sched_switch(prev_pid=1)=3", "returns nothing"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(error.contains("Events:") || error.contains("--help"), "{error}");
        }
    }
}
