use super::*;

const ORACLE: &str = r#"{"file":"/a/objects/s/x.o","open":{"ok":true,"us":1},"load":{"ok":true,"us":1},"programs":[{"name":"p","section":"xdp","type":"xdp","ok":true,"tag":"01"},{"name":"q","section":"xdp","type":"xdp","ok":true,"tag":"02"},{"name":"r","section":"tc","type":"sched_cls","ok":true,"tag":"03"},{"name":"s","section":"tc","type":"sched_cls","ok":false},{"name":"t","section":"tc","type":"sched_cls","ok":false}]}
{"file":"/a/objects/s/y.o","open":{"ok":true,"us":1},"load":{"ok":false,"us":1},"programs":[{"name":"p","section":"xdp","type":"xdp","ok":true,"tag":"01"}]}
"#;
const SKEP: &str = r#"{"file":"/b/objects/s/x.o","open":{"ok":true,"us":1},"load":{"ok":true,"us":1},"programs":[{"name":"p","section":"xdp","type":"xdp","ok":true,"tag":"01"},{"name":"q","section":"xdp","type":"xdp","ok":true,"tag":"0f"},{"name":"r","section":"tc","type":"sched_cls","ok":false,"error":"map `m` 12: no"},{"name":"s","section":"tc","type":"sched_cls","ok":true},{"name":"t","section":"tc","type":"sched_cls","ok":false}]}
{"file":"/b/objects/s/y.o","open":{"ok":false,"us":1,"error":"bad magic"}}
"#;

fn compared() -> Compared {
    compare(&lines::parse(ORACLE).unwrap(), &lines::parse(SKEP).unwrap())
}

#[test]
fn counts_what_each_loads() {
    let expected = Counts {
        files: 2,
        files_libbpf_opens: 2,
        files_both_open: 1,
        files_skep_opens: 1,
        whole_libbpf: 1,
        whole_both: 1,
        both: 2,
        same_tag: 1,
        libbpf_only: 2,
        skep_only: 1,
        neither: 1,
    };
    assert_eq!(compared().counts, expected);
}

#[test]
fn a_difference_needs_a_reason_and_a_reason_a_difference() {
    let differences = compared().differences;
    let found: Vec<_> = differences.iter().map(|d| (&*d.what, &*d.file, &*d.program)).collect();
    assert_eq!(
        found,
        [("tag", "s/x.o", "q"), ("load", "s/x.o", "r"), ("open", "s/y.o", ""), ("load", "s/y.o", "p")]
    );
    let known = r#"[
        {"why": "no maps yet", "what": "load", "error": "map `*` *: no"},
        {"why": "magic", "error": "*bad magic"},
        {"why": "long gone", "type": "lsm"}
    ]"#;
    let (unexplained, stale) = Known::parse(known).unwrap().explain(&differences);
    assert_eq!(unexplained, [&differences[0]]);
    assert_eq!(stale, ["long gone"]);
}

#[test]
fn whole_loads_and_what_only_skep_loads_are_told() {
    let skep = SKEP.replacen("\"load\":{\"ok\":true", "\"load\":{\"ok\":false,\"error\":\"E2BIG\"", 1);
    let compared = compare(&lines::parse(ORACLE).unwrap(), &lines::parse(&skep).unwrap());
    let whole: Vec<_> = compared.differences.iter().filter(|d| d.what == "whole").collect();
    assert!(matches!(whole[..], [Difference { file, error, .. }] if file == "s/x.o" && error == "E2BIG"));
    let ahead: Vec<_> = compared.ahead.iter().map(|d| &*d.program).collect();
    assert_eq!(ahead, ["s"]);
}

#[test]
fn errors_group_by_shape() {
    assert_eq!(shape("map `m` 12: \"x\" no\nmore"), "map … #: … no");
}
