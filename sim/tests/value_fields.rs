//! Special fields of values, as recorded on Linux 6.18.

mod fields;

#[test]
fn special_fields() {
    let golden = include_str!("../../testdata/golden/fields_6.18.txt");
    let found = fields::all(&skep_sim::kernel());
    let mut differences = String::new();
    for (found, golden) in found.iter().zip(golden.lines()) {
        if found != golden {
            differences += &format!("  {found}\n  and Linux 6.18: {golden}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert_eq!(found.len(), golden.lines().count());
    assert!(fields::KNOWN.len() > 8);
}
