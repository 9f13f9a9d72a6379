//! What `skep run` prints.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use skep::btf::{Btf, TypeId};
use skep::map::Map;
use skep::sys::abi::ProgType;

use super::{Args, Left, Ran, title, types, values};
use crate::out;

/// The name of what a program answered, where its kind has names.
pub(super) fn verdict(prog_type: ProgType, retval: u32) -> Option<&'static str> {
    const XDP: &[&str] = &["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];
    const TC: &[&str] = &[
        "TC_ACT_OK",
        "TC_ACT_RECLASSIFY",
        "TC_ACT_SHOT",
        "TC_ACT_PIPE",
        "TC_ACT_STOLEN",
        "TC_ACT_QUEUED",
        "TC_ACT_REPEAT",
        "TC_ACT_REDIRECT",
        "TC_ACT_TRAP",
    ];
    const NETFILTER: &[&str] = &["NF_DROP", "NF_ACCEPT", "NF_STOLEN", "NF_QUEUE", "NF_REPEAT"];
    const LWT: &[&str] = &["BPF_OK", "", "BPF_DROP"];

    let at = |names: &[&'static str]| names.get(retval as usize).copied().filter(|name| !name.is_empty());
    match prog_type {
        ProgType::XDP => at(XDP),
        ProgType::SCHED_CLS | ProgType::SCHED_ACT if retval == u32::MAX => Some("TC_ACT_UNSPEC"),
        ProgType::SCHED_CLS | ProgType::SCHED_ACT => at(TC),
        ProgType::NETFILTER => at(NETFILTER),
        ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT if retval == 7 => Some("BPF_REDIRECT"),
        ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT => at(LWT),
        ProgType::SK_LOOKUP => at(&["SK_DROP", "SK_PASS"]),
        ProgType::CGROUP_SKB => at(&["drop", "allow"]),
        ProgType::SOCKET_FILTER if retval == 0 => Some("drop"),
        ProgType::SOCKET_FILTER => Some("keep"),
        ProgType::FLOW_DISSECTOR if retval == 0 => Some("BPF_OK"),
        ProgType::FLOW_DISSECTOR if retval == 2 => Some("BPF_DROP"),
        _ => None,
    }
}

/// A map's keys and values, as they are shown.
pub(super) struct Shown {
    key: Option<(Btf, TypeId)>,
    value: Option<(Btf, TypeId)>,
    size: usize,
    each: usize,
}

impl Shown {
    pub(super) fn new(map: &Map) -> Shown {
        let each = map.value_len() / map.values_per_element().max(1) as usize; // at least one
        // Maps of objects show ids, whatever their types.
        let value = types(map, false).filter(|_| map.value_len() >= map.shape().value_size as usize);
        Shown { key: types(map, true), value, size: map.shape().value_size as usize, each: each.max(1) }
    }

    pub(super) fn key(&self, bytes: &[u8]) -> Value {
        values::json(self.key.as_ref().map(|(btf, id)| (btf, *id)), bytes)
    }

    fn parts<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let size = self.size;
        bytes.chunks(self.each).map(move |part| part.get(..size).unwrap_or(part))
    }

    /// A value, or an array of those of all CPUs.
    pub(super) fn value(&self, bytes: &[u8]) -> Value {
        let types = self.value.as_ref().map(|(btf, id)| (btf, *id));
        let mut parts: Vec<Value> = self.parts(bytes).map(|part| values::json(types, part)).collect();
        if parts.len() == 1 { parts.pop().unwrap_or_default() } else { Value::Array(parts) }
    }

    pub(super) fn text(&self, key: &[u8], value: Option<&Vec<u8>>) -> String {
        let key = values::text(self.key.as_ref().map(|(btf, id)| (btf, *id)), key);
        let Some(bytes) = value else { return format!("{key} is gone") };
        let types = self.value.as_ref().map(|(btf, id)| (btf, *id));
        let parts: Vec<String> = self.parts(bytes).map(|part| values::text(types, part)).collect();
        match parts.as_slice() {
            [only] => format!("{key} = {only}"),
            many => {
                let cpus = many.iter().enumerate().map(|(cpu, value)| format!("\n    cpu {cpu}: {value}"));
                format!("{key} ={}", cpus.collect::<String>())
            }
        }
    }
}

/// Prints what one run did.
pub(super) fn ran(args: &Args, program: &str, ran: &Ran, steps: &str, of: usize) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        file: String,
        program: &'a str,
        #[serde(flatten)]
        ran: &'a Ran,
        #[serde(skip_serializing_if = "str::is_empty")]
        trace: &'a str,
    }

    if args.json {
        return out::json(&Line { file: title(args), program, ran, trace: steps });
    }
    let mut text = steps.to_owned();
    if of > 1 {
        text.push_str(&format!("packet {}: ", ran.packet));
    }
    match (&ran.error, ran.retval) {
        (Some(error), _) => text.push_str(&format!("FAILED: {error}\n")),
        (None, retval) => {
            let retval = retval.unwrap_or_default();
            match ran.verdict {
                Some(verdict) => text.push_str(&format!("{program} returns {verdict} ({retval})")),
                None => text.push_str(&format!("{program} returns {retval}")),
            }
            if let Some(time) = ran.nanoseconds.filter(|_| args.repeat > 1) {
                text.push_str(&format!(", {time} ns a run"));
            }
            text.push('\n');
        }
    }
    for (title, lines) in [("effect", &ran.effects), ("printed", &ran.printed)] {
        lines.iter().for_each(|line| text.push_str(&format!("  {title}: {line}\n")));
    }
    if let Some(data) = &ran.data {
        text.push_str(&format!("  packet of {} bytes is now {} bytes: {data}\n", ran.length, data.len() / 2));
    }
    out::text(&text)
}

/// Prints what was left.
pub(super) fn left(args: &Args, left: &Left) -> Result<()> {
    if args.json {
        return out::json(left);
    }
    let mut text = String::new();
    for (name, changes) in &left.maps {
        text.push_str(&format!("{name}\n"));
        changes.iter().for_each(|change| text.push_str(&format!("  {}\n", change.text)));
    }
    if let Some(coverage) = &left.coverage {
        text.push_str(coverage);
    }
    out::text(&text)
}
