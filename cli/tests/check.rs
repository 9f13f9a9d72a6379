//! `skep check` as a user calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

fn check(args: &[&str], objects: &[&str], kernels: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.arg("check").args(args).args(objects.iter().map(|name| testdata(name)));
    command.arg("--btf").args(kernels).output().expect("the command starts")
}

fn kernel(name: &str) -> PathBuf {
    testdata(&format!("btf/{name}.btf"))
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is UTF-8")
}

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("skep-cli-check-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory can be made");
        Scratch(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is below the directory")).expect("it can be made");
        fs::write(&path, bytes).expect("it can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_line_for_each_object_and_kernel() {
    let output = check(&["--json"], &["core_errors.o", "core_flavors.o"], &[kernel("5.10"), kernel("6.12")]);
    assert_eq!(output.status.code(), Some(1), "core_errors lacks what is not guarded");
    let lines = lines(&output);
    let pairs: Vec<(bool, bool, &Value)> = lines
        .iter()
        .map(|line| {
            let ends = |key: &str, with: &str| line[key].as_str().is_some_and(|text| text.ends_with(with));
            (ends("file", "core_errors.o"), ends("btf", "5.10.btf"), &line["ok"])
        })
        .collect();
    let (yes, no) = (&Value::Bool(true), &Value::Bool(false));
    assert_eq!(pairs, [(true, true, no), (true, false, no), (false, true, yes), (false, false, yes)]);

    assert_eq!(keys(&lines[0]), ["btf", "error", "file", "notes", "ok", "programs", "unknown", "verdict"]);
    let program = &lines[0]["programs"][0];
    assert_eq!(keys(program), ["error", "missing", "name", "ok", "section", "type", "verdict"]);
    assert_eq!((&program["name"], &program["verdict"]), (&"missing_field".into(), &"fails".into()));
    let missing = &program["missing"][0];
    assert_eq!(keys(missing), ["function", "guarded", "instruction", "kind", "source", "what", "why"]);
    assert_eq!((&missing["kind"], &missing["guarded"]), (&"field".into(), no));
    assert_eq!(missing["what"], "struct task_struct___bad.skep_missing");
    assert_eq!(missing["source"]["line"], 12);
    assert!(missing["source"]["text"].as_str().is_some_and(|text| text.contains("missing_field")));

    let guarded = &lines[2]["programs"][1]["missing"][0];
    assert_eq!(guarded["guarded"], Value::Bool(true), "{guarded}");
}

#[test]
fn exit_codes_follow_what_fails() {
    let code = |object: &str| check(&[], &[object], &[kernel("6.12")]).status.code();
    assert_eq!(code("core_flavors.o"), Some(0), "all that it lacks is guarded");
    assert_eq!(code("kconfig.o"), Some(0), "what is not known is no failure");
    assert_eq!(code("core_errors.o"), Some(1));
    assert_eq!(code("README.md"), Some(1), "no object");
    let usage = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_skep")).arg("check").args(args).output().expect("it starts").status
    };
    assert_eq!(usage(&["x.o"]).code(), Some(2), "no kernel");
    assert_eq!(usage(&["--btf", "x.btf"]).code(), Some(2), "no object");
}

#[test]
fn wrong_input_says_what_to_do() {
    let output = check(&["--kernel-version", "6.1"], &["kconfig.o"], &[testdata("btf")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("beside its BTF"), "{}", text(&output.stderr));

    let scratch = Scratch::new("wrong");
    let output = check(&[], &["kconfig.o"], std::slice::from_ref(&scratch.0));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("holds no kernel's types"), "{}", text(&output.stderr));

    let output = check(&[], &["kconfig.o"], &["/no/such.btf".into()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such.btf"), "{}", text(&output.stderr));

    // A file that is no BTF fails for its kernel, and the others are looked at.
    let broken = scratch.file("broken.btf", "nothing");
    let output = check(&["--json"], &["core_flavors.o"], &[broken, kernel("6.1")]);
    let lines = lines(&output);
    assert_eq!(
        (output.status.code(), &lines[0]["ok"], &lines[1]["ok"]),
        (Some(1), &false.into(), &true.into())
    );
    assert!(lines[0]["error"].as_str().is_some_and(|error| error.contains("neither BTF nor an ELF")));

    let config = scratch.file("config", "not a configuration");
    let output =
        check(&["--json", "--kconfig", config.to_str().expect("UTF-8")], &["kconfig.o"], &[kernel("6.1")]);
    assert!(text(&output.stdout).contains("is it another file"), "{}", text(&output.stdout));
}

#[test]
fn an_object_of_the_other_byte_order_fits_no_kernel() {
    for (object, kernel, error) in [
        ("core_fields.eb.o", "btf/6.12.btf", "made for big-endian machines, and the kernel is little-endian"),
        (
            "core_synthetic.o",
            "targets/skep__v0.eb.o",
            "made for little-endian machines, and the kernel is big",
        ),
    ] {
        let output = check(&["--json"], &[object], &[testdata(kernel)]);
        let lines = lines(&output);
        assert_eq!((output.status.code(), &lines[0]["verdict"]), (Some(1), &"fails".into()), "{object}");
        assert!(lines[0]["error"].as_str().is_some_and(|text| text.contains(error)), "{}", lines[0]);
    }
    let big = check(&["--json"], &["core_synthetic.eb.o"], &[testdata("targets/skep__v0.eb.o")]);
    assert_eq!(lines(&big)[0]["error"], Value::Null, "{}", text(&big.stdout));
}

#[test]
fn kernels_with_the_same_outcome_share_a_column() {
    let scratch = Scratch::new("group");
    let (old, new) =
        (fs::read(kernel("5.10")).expect("a fixture"), fs::read(kernel("6.12")).expect("a fixture"));
    for nth in 1..=30 {
        scratch.file(&format!("old/5.10.{nth}.btf"), &old);
        scratch.file(&format!("new/6.12.{nth}"), &new);
    }
    scratch.file("new/notes.txt", "no kernel");
    let objects = ["kfunc.o", "core_flavors.o", "core_errors.o"];
    let output = check(&[], &objects, std::slice::from_ref(&scratch.0));
    let page = text(&output.stdout);
    assert!(page.contains("A  30 kernels  new/6.12.1, new/6.12.2,"), "{page}");
    assert!(page.contains("B  30 kernels  old/5.10.1, old/5.10.2,"), "{page}");
    assert!(page.contains("and 22 more, the last old/5.10.30"), "{page}");
    assert!(page.contains("core_flavors.o  ok         ok\n"), "{page}");
    assert!(
        page.contains("    B: no kfunc bpf_task_acquire, wanted at kfunc.c:16:29: struct task_struct"),
        "{page}"
    );
    assert!(
        page.contains("    A B: no field struct task_struct___bad.skep_missing, wanted at core_errors.c:12"),
        "{page}"
    );
    assert!(!page.contains("guarded"), "what is guarded is listed only when asked for: {page}");
    assert!(page.lines().count() < 40, "{page}");
    assert_eq!(text(&output.stderr), "", "no progress bar without a terminal");

    // However many threads look, the page is the same.
    for jobs in ["1", "7"] {
        let again = check(&["--jobs", jobs], &objects, std::slice::from_ref(&scratch.0));
        assert_eq!(text(&again.stdout), page);
    }
    assert!(text(&check(&["--guarded"], &objects, &[kernel("6.1")]).stdout).contains("guarded"));
}

#[test]
fn kernels_are_described_by_flags_and_by_files_beside_them() {
    let config = "# Linux/x86 6.12.107 Kernel Configuration\nCONFIG_HZ=250\nCONFIG_BPF_SYSCALL=y\n";
    let scratch = Scratch::new("described");
    let verdicts = |output: &Output| -> Vec<String> {
        let line = lines(output).pop().expect("a line");
        let programs = line["programs"].as_array().expect("programs").clone();
        let of = |name: &str| programs.iter().find(|program| program["name"] == name).cloned();
        ["by_version", "by_config", "by_symbol"]
            .iter()
            .map(|name| of(name).expect("it is there")["verdict"].as_str().expect("a text").to_owned())
            .collect()
    };
    let bare = check(&["--json"], &["guards.o"], &[kernel("6.12")]);
    assert_eq!(verdicts(&bare), ["unknown", "unknown", "unknown"]);
    let version = check(&["--json", "--kernel-version", "6.12.107-amd64"], &["guards.o"], &[kernel("6.12")]);
    assert_eq!(verdicts(&version), ["ok", "unknown", "unknown"]);

    let file = scratch.file("config", config);
    let flag = file.to_str().expect("it is UTF-8");
    let kconfig = check(&["--json", "--kconfig", flag], &["guards.o"], &[kernel("6.12")]);
    assert_eq!(verdicts(&kconfig), ["ok", "ok", "unknown"], "the configuration tells the version");

    let btf = scratch.file("a/6.12.107.btf", fs::read(kernel("6.12")).expect("a fixture"));
    scratch.file("a/6.12.107.config", config);
    scratch.file("a/6.12.107.kallsyms", "ffffffff81000000 T _stext\n");
    let beside = check(&["--json"], &["guards.o"], &[btf]);
    assert_eq!(verdicts(&beside), ["ok", "ok", "ok"]);
    let beside = check(&["--json"], &["guards.o"], &[scratch.0.join("a")]);
    assert_eq!(verdicts(&beside), ["ok", "ok", "ok"]);
}
