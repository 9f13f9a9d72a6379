//! Leaving out what makes no difference to programs makes none on the running kernel.

mod prune_conformance;
mod support;

#[test]
fn programs_do_the_same() {
    let Some(kernel) = support::linux("programs_do_the_same") else { return };
    let loaded = prune_conformance::programs_do_the_same(&kernel, true);
    assert!(loaded > 30, "only {loaded} programs loaded");
}
