//! What definitions put into maps, and types that the user gives, seen by the programs.

use skep::sys::abi::{AttachType, ProgType};
use skep::sys::request::TestRun;
use skep::{Kernel, Loader, Object};

use super::open;

fn run(object: &Object, program: &str) -> u32 {
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    object.program(program).expect("it is there").test_run(&mut run).expect("it runs").retval
}

/// Maps of maps and prog arrays hold what their definitions say, where they say it, and nothing else.
pub(crate) fn declared_elements_are_found(kernel: &Kernel) {
    let object = Loader::new(kernel).load(&open("map_slots.o")).expect("it loads");
    let by_index = 1 << 1 | 1 << 4 | 1 << 5;
    let by_key = 1 << 0 | 1 << 3;
    assert_eq!(run(&object, "visit"), by_index | by_key << 8);
    let counted = ["first", "second", "third"].map(|name| {
        let value =
            object.map(name).expect("it is there").lookup(&0u32.to_ne_bytes()).expect("it can be read");
        value.expect("an array has its element")
    });
    assert_eq!(counted, [2u64, 2, 1].map(|count| count.to_ne_bytes().to_vec()));
    // Element 0 is empty, 1 jumps on to 3.
    assert_eq!(run(&object, "jump"), 33);
}

/// A section name that says nothing makes only its program unloadable, until it gets a type.
pub(crate) fn types_are_given_by_hand(kernel: &Kernel) {
    let spec = open("sections_unknown.o");
    let error = Loader::new(kernel).load(&spec).expect_err("two programs have no type");
    let cause = std::error::Error::source(&error).expect("it has a cause").to_string();
    assert!(cause.contains("`mystery`") && cause.contains("names no program type"), "{error}: {cause}");

    let mut known = spec.clone();
    known.load_only(known.program_index("known").expect("it is there"));
    assert_eq!(run(&Loader::new(kernel).load(&known).expect("it loads"), "known"), 0);

    let mut typed = spec;
    for program in typed.programs.iter_mut().filter(|program| program.prog_type == ProgType::UNSPEC) {
        (program.prog_type, program.attach_type) = (ProgType::XDP, AttachType::XDP);
        program.attach_type_optional = true;
    }
    let object = Loader::new(kernel).load(&typed).expect("all have types");
    assert_eq!(["mystery", "old_style", "known"].map(|name| run(&object, name)), [2, 2, 0]);
}
