//! The command as a user calls it, without a kernel.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

fn skep(args: &[&str], objects: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(args).args(objects).output().expect("the command starts")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn inspect_prints_a_line_for_each_file() {
    let objects = [testdata("xdp_count.o"), testdata("README.md"), testdata("sections.eb.o")];
    let output = skep(&["inspect", "--json"], &objects);
    assert_eq!(output.status.code(), Some(1), "one of them is no object");
    let lines = lines(&output);
    assert_eq!(lines.len(), 3);

    let xdp = &lines[0];
    assert_eq!(xdp["file"], objects[0].to_str().expect("the path is UTF-8"));
    assert_eq!((&xdp["ok"], &xdp["endian"]), (&Value::Bool(true), &"little".into()));
    let program = &xdp["programs"][0];
    for key in ["name", "section", "type", "attach_type", "instructions", "autoload"] {
        assert!(keys(program).contains(&key), "{key}");
    }
    assert_eq!(program["type"], "xdp");
    for key in [
        "name",
        "type",
        "key_size",
        "value_size",
        "max_entries",
        "flags",
        "numa_node",
        "map_extra",
        "pinning",
        "autocreate",
        "inner",
        "elements",
    ] {
        assert!(keys(&xdp["maps"][0]).contains(&key), "{key}");
    }
    assert_eq!(xdp["maps"][0]["type"], "percpu_array");
    assert_eq!(xdp["core_relocations"], 0);

    assert_eq!(lines[1]["ok"], false);
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.contains("ELF")), "{}", lines[1]);
    assert_eq!(keys(&lines[1]), ["error", "file", "ok"]);

    assert_eq!(lines[2]["endian"], "big");
    let optional = lines[2]["programs"].as_array().expect("programs").iter().find(|p| p["autoload"] == false);
    assert!(optional.is_some(), "sections.c has an optional program");
}

#[test]
fn inspect_says_what_maps_hold() {
    let objects = [testdata("map_slots.o"), testdata("struct_ops_optional.o")];
    let lines = lines(&skep(&["inspect", "--json"], &objects));
    let find = |line: &Value, name: &str| {
        let maps = line["maps"].as_array().expect("maps");
        maps.iter().find(|map| map["name"] == name).cloned().expect("the map is there")
    };
    let by_key = find(&lines[0], "by_key");
    assert_eq!(
        by_key["elements"],
        serde_json::json!([{"index": 0, "name": "second"}, {"index": 3, "name": "third"}])
    );
    assert_eq!((&by_key["inner"]["type"], &by_key["inner"]["value_size"]), (&"array".into(), &8.into()));
    let created = ["skep_wider", "skep_optional"].map(|name| find(&lines[1], name)["autocreate"] == true);
    assert_eq!(created, [true, false]);

    let page = String::from_utf8(skep(&["inspect"], &objects).stdout).expect("it is UTF-8");
    for part in [
        "of array, key 4, value 8, 1 entries, holds 0: second 3: third",
        "holds 1: next 3: last",
        "not created by",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[test]
fn inspect_prints_pages_for_people() {
    let output = skep(&["inspect"], &[testdata("globals.o"), testdata("kconfig.o")]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("it is UTF-8");
    for part in ["programs\n", "maps\n", "globals\n", "externs\n", "data_u32", "CONFIG_", "u32[4]"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [&["inspect"][..], &["verify"], &["frobnicate"], &["verify", "--timeout", "0", "x.o"], &[]] {
        assert_eq!(skep(args, &[]).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = skep(&["inspect", "--json"], &[PathBuf::from("/no/such/object.o")]);
    let error = lines(&output)[0]["error"].to_string();
    assert!(error.contains("/no/such/object.o") && error.contains("No such file"), "{error}");
    let output = skep(&["load"], &[PathBuf::from("/no/such/object.o")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/object.o"));
}

/// Objects with damage anywhere: the command says what is wrong with each, and goes on.
#[test]
fn damaged_files_do_not_stop_the_others() {
    let directory = std::env::temp_dir().join(format!("skep-cli-damaged-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory can be made");
    let whole = std::fs::read(testdata("tracer.o")).expect("the object is in the repository");
    let mut objects = Vec::new();
    for (number, at) in (0..whole.len()).step_by(whole.len() / 40).enumerate() {
        let path = directory.join(format!("{number}.o"));
        let mut bytes = whole.clone();
        bytes[at..].iter_mut().take(8).for_each(|byte| *byte ^= 0xff);
        if number % 3 == 0 {
            bytes.truncate(at);
        }
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        objects.push(path);
    }
    objects.push(testdata("tracer.o"));
    let output = skep(&["inspect", "--json"], &objects);
    let lines = lines(&output);
    assert_eq!(lines.len(), objects.len());
    assert_eq!(lines.last().expect("a line for each")["ok"], true);
    std::fs::remove_dir_all(&directory).expect("it can be removed");
}

/// Map definitions of before BTF are accepted, and refused when libbpf's judgement is asked for.
#[test]
fn strict_refuses_what_libbpf_refuses() {
    let objects = [testdata("tc_legacy.o"), testdata("maps_legacy_sections.o"), testdata("maps_btf.o")];
    let output = skep(&["inspect", "--json"], &objects);
    assert_eq!(output.status.code(), Some(0));
    let tc = &lines(&output)[0];
    let shared = tc["maps"].as_array().expect("maps").iter().find(|map| map["name"] == "skep_shared");
    assert_eq!(shared.expect("it has the map")["pinning"], "tc_globals");
    let page = skep(&["inspect"], &objects[..1]);
    assert!(String::from_utf8_lossy(&page.stdout).contains("pinned in tc/globals"));

    let output = skep(&["inspect", "--strict", "--json"], &objects);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    for (line, section) in lines.iter().zip(["maps", "maps/by_cpu"]) {
        let error = line["error"].as_str().expect("an error");
        assert!(error.contains(&format!("section `{section}`: legacy map definitions")), "{error}");
    }
    assert_eq!(lines[2]["ok"], true);
    for command in ["verify", "load"] {
        let output = skep(&[command, "--strict", "--json"], &objects[..1]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("legacy map definitions"), "{command}: {text}");
    }
}
