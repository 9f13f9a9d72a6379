//! What the CO-RE tests share: BTF from text, and objects with their relocations.
#![allow(dead_code)] // each test file uses some of it

use std::path::PathBuf;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use skep_asm::{Endian, Insn, decode};
use skep_btf::{Btf, CoreRelo, ExtInfo};

/// A BTF blob from a list of types, one for each line or `;`, with ids from 1 in their order, and strings that are added
/// to it; gives the offsets of those. `_` is the name of what has none.
///
/// ```text
/// int u32 4            int s8 1 signed      int old 4 offset=3
/// struct s 8 a:1@0 b:2@32+5                 (member:type@bit, +bits of a bit field)
/// union u 4 a:1@0      enum e 4 A=1 B=-2    enum64 e 8 signed A=5
/// ptr 3                array 1 len          fwd s            fwd s union
/// typedef t 1          const 1              func f 9         proto 1 a:2 b:3
/// float f 4            var v 1              tag text 1
/// ```
pub(crate) fn build(types: &str, strings: &[&str], endian: Endian) -> (Vec<u8>, Vec<u32>) {
    let mut out = Builder { types: Vec::new(), strings: vec![0], endian };
    for line in types.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()) {
        out.add(line);
    }
    let offsets = strings.iter().map(|text| out.string(text)).collect();
    (out.finish(), offsets)
}

pub(crate) fn btf(types: &str) -> Btf {
    Btf::parse(build(types, &[], Endian::Little).0).unwrap()
}

struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    endian: Endian,
}

impl Builder {
    fn word(&mut self, word: u32) {
        let bytes = if self.endian.is_little() { word.to_le_bytes() } else { word.to_be_bytes() };
        self.types.extend(bytes);
    }

    fn string(&mut self, text: &str) -> u32 {
        if text == "_" {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u32>().unwrap_or_else(|_| panic!("{line}"));
        let flags = |from: usize| words[from..].to_vec();
        match words[0] {
            "int" => {
                let signed = u32::from(words.contains(&"signed"));
                let offset = words.iter().find_map(|word| word.strip_prefix("offset="));
                let offset = offset.map_or(0, |offset| offset.parse::<u32>().unwrap());
                let char_flag = 2 * u32::from(words.contains(&"char"));
                self.head(words[1], 1, 0, false, number(2));
                self.word(((signed | char_flag) << 24) | (offset << 16) | (number(2) * 8));
            }
            "ptr" => self.head("_", 2, 0, false, number(1)),
            "array" => {
                self.head("_", 3, 0, false, 0);
                self.word(number(1));
                self.word(number(1));
                self.word(number(2));
            }
            kind @ ("struct" | "union") => {
                let members = flags(3);
                let bit_fields = members.iter().any(|member| member.contains('+'));
                let kind = if kind == "struct" { 4 } else { 5 };
                self.head(words[1], kind, members.len() as u32, bit_fields, number(2));
                for member in members {
                    let (name, rest) = member.split_once(':').unwrap();
                    let (id, at) = rest.split_once('@').unwrap();
                    let (at, bits) = at.split_once('+').unwrap_or((at, "0"));
                    let name = self.string(name);
                    self.word(name);
                    self.word(id.parse().unwrap());
                    self.word(at.parse::<u32>().unwrap() | bits.parse::<u32>().unwrap() << 24);
                }
            }
            kind @ ("enum" | "enum64") => {
                let signed = words.contains(&"signed");
                let values: Vec<_> = flags(3).into_iter().filter_map(|word| word.split_once('=')).collect();
                self.head(
                    words[1],
                    if kind == "enum" { 6 } else { 19 },
                    values.len() as u32,
                    signed,
                    number(2),
                );
                for (name, value) in values {
                    let value = value.parse::<i128>().unwrap() as u64;
                    let name = self.string(name);
                    self.word(name);
                    self.word(value as u32);
                    if kind == "enum64" {
                        self.word((value >> 32) as u32);
                    }
                }
            }
            "fwd" => self.head(words[1], 7, 0, words.contains(&"union"), 0),
            "typedef" => self.head(words[1], 8, 0, false, number(2)),
            "volatile" => self.head("_", 9, 0, false, number(1)),
            "const" => self.head("_", 10, 0, false, number(1)),
            "restrict" => self.head("_", 11, 0, false, number(1)),
            "func" => self.head(words[1], 12, 1, false, number(2)),
            "proto" => {
                let params = flags(2);
                self.head("_", 13, params.len() as u32, false, number(1));
                for param in params {
                    let (name, id) = param.split_once(':').unwrap();
                    let name = self.string(name);
                    self.word(name);
                    self.word(id.parse().unwrap());
                }
            }
            "var" => {
                self.head(words[1], 14, 0, false, number(2));
                self.word(1);
            }
            "float" => self.head(words[1], 16, 0, false, number(2)),
            "tag" => self.head(words[1], 18, 0, false, number(2)),
            _ => panic!("{line}"),
        }
    }

    fn head(&mut self, name: &str, kind: u32, vlen: u32, flag: bool, third: u32) {
        let name = self.string(name);
        self.word(name);
        self.word(kind << 24 | vlen | u32::from(flag) << 31);
        self.word(third);
    }

    fn finish(mut self) -> Vec<u8> {
        let (types, strings) = (std::mem::take(&mut self.types), std::mem::take(&mut self.strings));
        self.word(if self.endian.is_little() { 0x0001_eb9f } else { 0xeb9f_0100 });
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            self.word(word);
        }
        [self.types, types, strings].concat()
    }
}

/// The folder of objects and BTF that tests read.
pub(crate) fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata")).join(name)
}

/// Raw BTF, or the BTF of an object file.
pub(crate) fn load_btf(name: &str) -> Btf {
    let bytes = std::fs::read(testdata(name)).unwrap();
    if name.ends_with(".btf") {
        return Btf::parse(bytes).unwrap();
    }
    let file = object::File::parse(&*bytes).unwrap();
    Btf::parse(file.section_by_name(".BTF").unwrap().data().unwrap().to_vec()).unwrap()
}

/// A function of an object: where it is.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) section: String,
    /// First instruction, and how many there are.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// The relocations of one section and its code.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) section: String,
    pub(crate) insns: Vec<Insn>,
    pub(crate) relos: Vec<CoreRelo>,
}

/// What a CO-RE pass needs of an object.
pub(crate) struct Subject {
    pub(crate) btf: Btf,
    pub(crate) functions: Vec<Function>,
    /// In the order of `.BTF.ext`.
    pub(crate) code: Vec<Code>,
}

impl Subject {
    pub(crate) fn load(name: &str) -> Subject {
        let bytes = std::fs::read(testdata(name)).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let section = |name: &str| file.section_by_name(name).unwrap().data().unwrap().to_vec();
        let btf = Btf::parse(section(".BTF")).unwrap();
        let ext = ExtInfo::parse(section(".BTF.ext")).unwrap();
        let mut functions = Vec::new();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let Some(section) = symbol.section_index() else { continue };
            let section = file.section_by_index(section).unwrap().name().unwrap().to_owned();
            let name = symbol.name().unwrap().to_owned();
            let (start, len) = (symbol.address() as usize / 8, symbol.size() as usize / 8);
            functions.push(Function { name, section, start, len });
        }
        let mut code = Vec::new();
        for block in ext.core_relos().blocks() {
            let name = String::from_utf8(block.section_name(&btf).unwrap().to_vec()).unwrap();
            let insns = decode(&section(&name), btf.endian()).unwrap();
            let relos = block.records().map(|record| record.info).collect();
            code.push(Code { section: name, insns, relos });
        }
        Subject { btf, functions, code }
    }

    pub(crate) fn function(&self, name: &str) -> &Function {
        self.functions.iter().find(|function| function.name == name).unwrap_or_else(|| panic!("{name}"))
    }

    pub(crate) fn relos(&self) -> impl Iterator<Item = &CoreRelo> {
        self.code.iter().flat_map(|code| &code.relos)
    }
}
