//! What a loader asked for one object, in a form in which two loaders can be compared: descriptors are names, and what
//! means nothing to a kernel is left out.

use serde::Serialize;

use crate::tap::hex;
use crate::tape::{self, Id, Reference, Tape, Value};

/// The names and handles that a loader has for the parts of an object, in its order.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) maps: Vec<Part>,
    pub(crate) programs: Vec<Part>,
}

/// A map or program of an object.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) section: String,
    /// Where it is pinned, if it is.
    pub(crate) pin: Option<String>,
    /// What was made of it, if it was.
    pub(crate) id: Option<Id>,
    pub(crate) tag: Option<String>,
}

/// Everything that was asked for an object.
#[derive(Serialize)]
pub(crate) struct Page {
    /// All maps of the object.
    maps: Vec<Map>,
    /// The order in which they were made.
    maps_made: Vec<String>,
    /// Maps that the loader made for programs and that the object does not name.
    further_maps: Vec<Map>,
    /// All programs of the object.
    programs: Vec<Program>,
    /// The order in which they were loaded.
    programs_made: Vec<String>,
    /// The object's types, as the kernel was given them.
    types: Option<String>,
}

#[derive(Serialize)]
struct Map {
    name: String,
    pin: Option<String>,
    made: Option<MapRequest>,
    elements: Vec<String>,
    frozen: bool,
}

#[derive(Serialize)]
struct MapRequest {
    name: String,
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    numa_node: u32,
    ifindex: u32,
    extra: u64,
    key_type: u32,
    value_type: u32,
    kernel_value_type: u32,
    value_type_module: Option<String>,
    exclusive: String,
    inner: Option<Box<MapRequest>>,
}

#[derive(Serialize)]
struct Program {
    name: String,
    section: String,
    made: Option<ProgramRequest>,
    tag: Option<String>,
}

#[derive(Serialize)]
struct ProgramRequest {
    name: String,
    prog_type: u32,
    license: String,
    kern_version: u32,
    flags: u32,
    ifindex: u32,
    attach_type: u32,
    attach_btf_id: u32,
    attach_module: String,
    core_relos: u32,
    insns: Vec<String>,
    has_types: bool,
    func_info: Vec<String>,
    line_info: Vec<String>,
    /// Maps that are bound to it beside those that it names.
    bound: Vec<String>,
}

impl Page {
    /// What of the tape belongs to these parts. The rest asked what the kernel can do.
    pub(crate) fn new(tape: &Tape, parts: &Parts) -> Page {
        let mut further: Vec<Id> = Vec::new();
        for program in parts.programs.iter().filter_map(|part| tape.program(part.id?)) {
            for (_, reference) in &program.references {
                if let Reference::Map(Some(id)) = reference
                    && !parts.maps.iter().any(|part| part.id == Some(*id))
                    && !further.contains(id)
                {
                    further.push(*id);
                }
            }
        }
        let names = Names { parts, further: &further };
        let maps = parts.maps.iter().map(|part| {
            let map = part.id.and_then(|id| tape.map(id));
            names.map(tape, part.name.clone(), part.pin.clone(), map)
        });
        let further_maps =
            further.iter().map(|id| names.map(tape, names.of_map(Some(*id)), None, tape.map(*id)));
        let programs = parts.programs.iter().map(|part| Program {
            name: part.name.clone(),
            section: part.section.clone(),
            made: part.id.and_then(|id| tape.program(id)).map(|program| names.program(program)),
            tag: part.tag.clone(),
        });
        let known_map = |id: &Id| parts.maps.iter().any(|part| part.id == Some(*id));
        let known_program = |id: &Id| parts.programs.iter().any(|part| part.id == Some(*id));
        // Without an id or a record that refers to them, a kernel does not look at types.
        let refers = |map: &&tape::Map| map.key_type != 0 || map.value_type != 0;
        let own = |map: &&tape::Map| known_map(&map.id) || further.contains(&map.id);
        let inner = |id: Id| tape.maps.iter().any(|map| own(&map) && map.inner == Some(id));
        let maps_used = tape.maps.iter().filter(|map| refers(map) && (own(map) || inner(map.id)));
        let own = |program: &&tape::Program| known_program(&program.id) && program.has_records();
        let programs_used = tape.programs.iter().filter(own).filter_map(|program| program.types);
        let used: Vec<Id> = maps_used.filter_map(|map| map.types).chain(programs_used).collect();
        let mut types = tape.types.iter().filter(|types| used.contains(&types.id));
        Page {
            maps: maps.collect(),
            maps_made: tape
                .maps
                .iter()
                .map(|map| map.id)
                .filter(known_map)
                .map(|id| names.of_map(Some(id)))
                .collect(),
            further_maps: further_maps.collect(),
            programs: programs.collect(),
            programs_made: tape
                .programs
                .iter()
                .map(|program| program.id)
                .filter(known_program)
                .map(|id| names.of_program(Some(id)))
                .collect(),
            types: types.next_back().map(|types| hex(&types.bytes)),
        }
    }
}

struct Names<'a> {
    parts: &'a Parts,
    further: &'a [Id],
}

impl Names<'_> {
    fn of_map(&self, id: Option<Id>) -> String {
        let parts = &self.parts.maps;
        if let Some(at) = parts.iter().position(|part| id.is_some() && part.id == id) {
            return format!("map {at} {}", parts[at].name);
        }
        match self.further.iter().position(|further| Some(*further) == id) {
            Some(at) => format!("further map {at}"),
            None => "no map".to_owned(),
        }
    }

    fn of_program(&self, id: Option<Id>) -> String {
        let parts = &self.parts.programs;
        match parts.iter().position(|part| id.is_some() && part.id == id) {
            Some(at) => format!("program {at} {}", parts[at].name),
            None => "no program".to_owned(),
        }
    }

    fn map(&self, tape: &Tape, name: String, pin: Option<String>, map: Option<&tape::Map>) -> Map {
        let element = |element: &tape::Element| {
            let value = match &element.value {
                Value::Bytes(bytes) => hex(bytes),
                Value::Map(id) => self.of_map(*id),
                Value::Program(id) => self.of_program(*id),
            };
            let flags =
                if element.flags == 0 { String::new() } else { format!(" flags {:#x}", element.flags) };
            format!("{}: {value}{flags}", hex(&element.key))
        };
        // What a new array holds anyway.
        let zero = |element: &&tape::Element| match &element.value {
            Value::Bytes(bytes) => {
                map.is_some_and(|map| map.map_type == ARRAY) && bytes.iter().all(|&byte| byte == 0)
            }
            _ => false,
        };
        Map {
            name,
            pin,
            made: map.map(|map| request(tape, map, 0)),
            elements: map
                .map(|map| map.elements.iter().filter(|one| !zero(one)).map(element).collect())
                .unwrap_or_default(),
            frozen: map.is_some_and(|map| map.frozen),
        }
    }

    fn program(&self, program: &tape::Program) -> ProgramRequest {
        let mut insns: Vec<String> = program.insns.iter().map(|insn| hex(insn)).collect();
        for (at, reference) in &program.references {
            let text = match reference {
                Reference::Map(id) => self.of_map(*id),
                Reference::Module(name) => format!("module {name}"),
            };
            if let Some(insn) = insns.get_mut(*at) {
                insn.push(' ');
                insn.push_str(&text);
            }
        }
        let named = |id: &&Id| {
            let names =
                |reference: &Reference| matches!(reference, Reference::Map(Some(named)) if named == *id);
            program.references.iter().any(|(_, reference)| names(reference))
        };
        let records = |records: &tape::Records| {
            records.bytes.chunks(records.size.max(1) as usize).map(hex).collect::<Vec<_>>()
        };
        ProgramRequest {
            name: program.name.clone(),
            prog_type: program.prog_type,
            license: program.license.clone(),
            kern_version: program.kern_version,
            flags: program.flags,
            ifindex: program.ifindex,
            attach_type: program.attach_type,
            attach_btf_id: program.attach_btf_id,
            attach_module: program.attach_module.clone(),
            core_relos: program.core_relos,
            insns,
            has_types: program.types.is_some() && program.has_records(),
            func_info: records(&program.func_info),
            line_info: records(&program.line_info),
            bound: program.bound.iter().filter(|id| !named(id)).map(|id| self.of_map(Some(*id))).collect(),
        }
    }
}

const ARRAY: u32 = 2;
/// Depth of maps of maps that is looked at; a kernel takes one.
const DEPTH: u32 = 4;

fn request(tape: &Tape, map: &tape::Map, depth: u32) -> MapRequest {
    let inner = map.inner.and_then(|id| tape.map(id)).filter(|_| depth < DEPTH);
    MapRequest {
        name: map.name.clone(),
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags,
        numa_node: map.numa_node,
        ifindex: map.ifindex,
        extra: map.extra,
        // Without ids a kernel does not look at the types that they would be of.
        key_type: map.key_type,
        value_type: map.value_type,
        kernel_value_type: map.kernel_value_type,
        value_type_module: map.value_type_module.clone(),
        exclusive: hex(&map.exclusive),
        inner: inner.map(|inner| Box::new(request(tape, inner, depth + 1))),
    }
}
