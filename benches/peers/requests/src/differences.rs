//! Where two pages differ.

use serde::Serialize;
use serde_json::Value;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// What it is of: `maps made flags`, `programs made insns`.
    pub(crate) what: String,
    /// Which map or program, and which of its instructions, elements or records.
    pub(crate) item: String,
    pub(crate) libbpf: String,
    pub(crate) skep: String,
}

/// Most of a value that is shown.
const SHOWN: usize = 200;
/// Most differences of one object that are told.
const MOST: usize = 200;

/// All differences of two pages; of a list of plain values, such as instructions, the first.
pub(crate) fn between(libbpf: &Value, skep: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(libbpf, skep, &mut Vec::new(), &mut String::new(), &mut found);
    found.truncate(MOST);
    found
}

fn walk(a: &Value, b: &Value, what: &mut Vec<String>, item: &mut String, found: &mut Vec<Difference>) {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, a) in left {
                what.push(key.replace('_', " "));
                walk(a, right.get(key).unwrap_or(&Value::Null), what, item, found);
                what.pop();
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            if left.len() != right.len() {
                what.push("count".to_owned());
                add(&left.len().into(), &right.len().into(), what, item, found);
                what.pop();
            }
            for (at, (a, b)) in left.iter().zip(right).enumerate() {
                let len = item.len();
                item.push_str(&format!("{}{at}", if len == 0 { "" } else { " at " }));
                if let Some(name) = a.get("name").and_then(Value::as_str) {
                    item.push_str(&format!(" {name}"));
                }
                let before = found.len();
                walk(a, b, what, item, found);
                item.truncate(len);
                // What follows the first differing instruction differs as a consequence.
                if found.len() > before && !a.is_object() {
                    break;
                }
            }
        }
        (a, b) if a == b => {}
        (a, b) => add(a, b, what, item, found),
    }
}

fn add(a: &Value, b: &Value, what: &[String], item: &str, found: &mut Vec<Difference>) {
    let (mut libbpf, mut skep) = (text(a), text(b));
    // Of long values, from a little before where they part.
    let part = libbpf.bytes().zip(skep.bytes()).take_while(|(a, b)| a == b).count();
    if part > SHOWN / 2 {
        for text in [&mut libbpf, &mut skep] {
            *text = format!("…{}", text.chars().skip(part - SHOWN / 4).collect::<String>());
        }
    }
    let short = |text: &str| text.chars().take(SHOWN).collect::<String>();
    found.push(Difference {
        what: what.join(" "),
        item: item.to_owned(),
        libbpf: short(&libbpf),
        skep: short(&skep),
    });
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Object(_) => "there".to_owned(),
        other => other.to_string(),
    }
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    maps: usize,
    elements: usize,
    programs: usize,
    instructions: usize,
    func_info: usize,
    line_info: usize,
    tags: usize,
}

impl Counts {
    /// How much there is of a page.
    pub(crate) fn of(page: &Value) -> Counts {
        let list =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let made = |value: &&Value| value.get("made").is_some_and(Value::is_object);
        let mut counts = Counts::default();
        for map in list(page, "maps").iter().chain(&list(page, "further_maps")).filter(made) {
            counts.maps += 1;
            counts.elements += list(map, "elements").len();
        }
        for program in list(page, "programs").iter().filter(made) {
            let made = &program["made"];
            counts.programs += 1;
            counts.instructions += list(made, "insns").len();
            counts.func_info += list(made, "func_info").len();
            counts.line_info += list(made, "line_info").len();
            counts.tags += usize::from(program["tag"].is_string());
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(flags: u32, second: &str, contents: &str) -> Value {
        json!({
            "maps": [{"name": "m", "made": {"flags": flags}, "elements": [contents]}],
            "further_maps": [],
            "programs": [{"name": "p", "tag": "00", "made": {"insns": ["b7", second, "95"], "func_info": [], "line_info": ["1"]}}],
        })
    }

    #[test]
    fn equal_pages_have_none() {
        assert_eq!(between(&page(1, "18 map 0", "00: 01"), &page(1, "18 map 0", "00: 01")), []);
    }

    #[test]
    fn each_is_named() {
        let found = between(&page(1, "18 map 0", "00: 01"), &page(3, "18 map 1", "00: 02"));
        let found: Vec<_> = found.iter().map(|d| (&*d.what, &*d.item, &*d.libbpf, &*d.skep)).collect();
        assert_eq!(
            found,
            [
                ("maps elements", "0 m at 0", "00: 01", "00: 02"),
                ("maps made flags", "0 m", "1", "3"),
                ("programs made insns", "0 p at 1", "18 map 0", "18 map 1"),
            ]
        );
    }

    #[test]
    fn what_one_side_lacks_is_told() {
        let left = json!({"programs": [{"name": "p", "made": {"insns": []}}, {"name": "q", "made": null}]});
        let right = json!({"programs": [{"name": "p", "made": null}]});
        let found = between(&left, &right);
        let found: Vec<_> = found.iter().map(|d| (&*d.what, &*d.item, &*d.libbpf, &*d.skep)).collect();
        assert_eq!(found, [("programs count", "", "2", "1"), ("programs made", "0 p", "there", "none")]);
    }

    #[test]
    fn counts_what_was_made() {
        let counts = Counts::of(&page(1, "18", "00: 01"));
        let expected = Counts {
            maps: 1,
            elements: 1,
            programs: 1,
            instructions: 3,
            func_info: 0,
            line_info: 1,
            tags: 1,
        };
        assert_eq!(counts, expected);
    }
}
