//! What is wrong with a description of memory.

/// Why a piece of the simulated kernel's memory cannot be described in this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The kernel has no types.
    #[error("the simulated kernel has no BTF, which tells where fields are; give it one with `Builder::btf`")]
    NoBtf,
    /// The kernel has no type of that name.
    #[error("the kernel's BTF has no type `{name}`{}", similar(near))]
    NoType {
        /// The name.
        name: String,
        /// Names of structs and unions that are similar, where an object was asked for.
        near: Vec<String>,
    },
    /// The kernel has no variable of that name.
    #[error("the kernel's BTF has no variable `{name}`")]
    NoVariable {
        /// The name.
        name: String,
    },
    /// A type has no member of that name.
    #[error("`{path}`: `{ty}` has no member `{member}`; it has {}", list(has))]
    NoMember {
        /// The path, up to the member.
        path: String,
        /// The type.
        ty: String,
        /// The member.
        member: String,
        /// The members that the type has, those with a similar name first.
        has: Vec<String>,
    },
    /// The path goes on where a type has no parts.
    #[error("`{path}`: `{ty}` has no members")]
    NotComposite {
        /// The path, up to where it must end.
        path: String,
        /// The type.
        ty: String,
    },
    /// An index behind the end, or into what is no array.
    #[error("`{path}`: index {index} of `{ty}`, which has {len} elements")]
    Index {
        /// The path, up to the index.
        path: String,
        /// The type.
        ty: String,
        /// The index.
        index: u64,
        /// Number of elements; 0 for what is no array.
        len: u64,
    },
    /// The path cannot be read.
    #[error("`{path}` is no path: write `member.member[index].member`")]
    Path {
        /// The path.
        path: String,
    },
    /// The kernel's BTF names a type and does not tell its layout.
    #[error("`{path}`: the kernel's BTF declares `{ty}` only, so that its size and members are not known")]
    Declared {
        /// The path, up to the type.
        path: String,
        /// The type.
        ty: String,
    },
    /// The path leads through a pointer to where nothing was described.
    #[error("`{path}`: a pointer to {address:#x}, where nothing is")]
    Nothing {
        /// The path, up to the pointer.
        path: String,
        /// Where it points.
        address: u64,
    },
    /// A value that the field cannot hold.
    #[error("`{path}`: {value} does not fit into `{ty}`: {why}")]
    Unfit {
        /// The path.
        path: String,
        /// The value.
        value: String,
        /// The type.
        ty: String,
        /// What is wrong.
        why: String,
    },
    /// What an object should stand for is not in the simulated kernel.
    #[error("the simulated kernel has no {what}")]
    NoSuch {
        /// The socket or device.
        what: String,
    },
    /// There is no such CPU.
    #[error("`{variable}` of CPU {cpu}: the kernel has {cpus}")]
    Cpu {
        /// The variable.
        variable: String,
        /// The CPU.
        cpu: u32,
        /// Number of CPUs.
        cpus: u32,
    },
    /// Memory of the kernel was given for that of a process, or the other way round.
    #[error("{address:#x} is no address of {of}")]
    Address {
        /// The address.
        address: u64,
        /// Whose it should be.
        of: &'static str,
    },
    /// A type is described wrongly by the BTF.
    #[error("`{path}`: {why}")]
    Broken {
        /// The path.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// Members that are listed in a message.
const LISTED: usize = 12;

fn list(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".clone_into(&mut text),
        len if len > LISTED => text.push_str(&format!(" and {} more", len - LISTED)),
        _ => {}
    }
    text
}

fn similar(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; similar: {}", near.join(", ")) }
}
