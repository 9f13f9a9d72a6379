//! The numbers of the format: ids, offsets, kinds, encodings, linkages.

use core::fmt;

/// Id of a type. `0` is `void`, which is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`, or "nothing here" where `void` makes no sense.
    pub const VOID: Self = Self(0);

    /// Whether this is `void`.
    pub fn is_void(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

/// Offset of a NUL-terminated string within the string section (of the base and then the split BTF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StrOffset(pub u32);

impl StrOffset {
    /// The empty string.
    pub const EMPTY: Self = Self(0);
}

impl fmt::Display for StrOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Kind of a type: `BTF_KIND_*`. Newer kernels add kinds, so any number is possible.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Kind(pub u8);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal $alias:literal,)*) => {
        impl Kind {
            $($(#[$doc])* #[doc(alias = $alias)] pub const $name: Self = Self($number);)*

            /// The name, as in `BTF_KIND_<name>`, when the kind is a known one.
            pub fn known_name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// `void`; only [`TypeId::VOID`] has it.
    VOID = 0 "BTF_KIND_UNKN",
    /// An integer, character or boolean.
    INT = 1 "BTF_KIND_INT",
    /// A pointer.
    PTR = 2 "BTF_KIND_PTR",
    /// An array.
    ARRAY = 3 "BTF_KIND_ARRAY",
    /// A structure.
    STRUCT = 4 "BTF_KIND_STRUCT",
    /// A union.
    UNION = 5 "BTF_KIND_UNION",
    /// An enumeration of 32-bit values; without enumerators, a forward declaration.
    ENUM = 6 "BTF_KIND_ENUM",
    /// A forward declaration of a structure, or (kind flag) of a union.
    FWD = 7 "BTF_KIND_FWD",
    /// A type alias.
    TYPEDEF = 8 "BTF_KIND_TYPEDEF",
    /// The `volatile` qualifier.
    VOLATILE = 9 "BTF_KIND_VOLATILE",
    /// The `const` qualifier.
    CONST = 10 "BTF_KIND_CONST",
    /// The `restrict` qualifier.
    RESTRICT = 11 "BTF_KIND_RESTRICT",
    /// A function.
    FUNC = 12 "BTF_KIND_FUNC",
    /// The type of a function.
    FUNC_PROTO = 13 "BTF_KIND_FUNC_PROTO",
    /// A variable.
    VAR = 14 "BTF_KIND_VAR",
    /// A section of variables.
    DATASEC = 15 "BTF_KIND_DATASEC",
    /// A floating-point number.
    FLOAT = 16 "BTF_KIND_FLOAT",
    /// A tag on a declaration, a member or a parameter.
    DECL_TAG = 17 "BTF_KIND_DECL_TAG",
    /// A tag on a type.
    TYPE_TAG = 18 "BTF_KIND_TYPE_TAG",
    /// An enumeration of 64-bit values.
    ENUM64 = 19 "BTF_KIND_ENUM64",
}

impl Kind {
    /// The newest kind that this crate knows.
    pub const LAST: Self = Self::ENUM64;

    /// `const`, `volatile`, `restrict` or a type tag.
    pub fn is_modifier(self) -> bool {
        matches!(self, Self::CONST | Self::VOLATILE | Self::RESTRICT | Self::TYPE_TAG)
    }

    /// A structure or union.
    pub fn is_composite(self) -> bool {
        matches!(self, Self::STRUCT | Self::UNION)
    }

    /// A function, variable, data section or declaration tag: something with a name that C does not
    /// use as a type.
    pub const fn is_declaration(self) -> bool {
        matches!(self, Self::FUNC | Self::VAR | Self::DATASEC | Self::DECL_TAG)
    }

    /// An enumeration of either width.
    pub fn is_enum(self) -> bool {
        matches!(self, Self::ENUM | Self::ENUM64)
    }

    /// Whether the third word of the record is a type id (otherwise it is a size or unused).
    pub fn has_type(self) -> bool {
        matches!(
            self,
            Self::PTR
                | Self::TYPEDEF
                | Self::VOLATILE
                | Self::CONST
                | Self::RESTRICT
                | Self::FUNC
                | Self::FUNC_PROTO
                | Self::VAR
                | Self::DECL_TAG
                | Self::TYPE_TAG
        )
    }

    /// Whether the third word of the record is a size in bytes.
    pub fn has_size(self) -> bool {
        matches!(
            self,
            Self::INT | Self::STRUCT | Self::UNION | Self::ENUM | Self::ENUM64 | Self::FLOAT | Self::DATASEC
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(name),
            None => write!(f, "kind {}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(name),
            None => write!(f, "Kind({})", self.0),
        }
    }
}

/// Encoding of an integer: `BTF_INT_*` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IntEncoding(pub u8);

impl IntEncoding {
    /// Unsigned, or nothing said.
    pub const NONE: Self = Self(0);
    /// Signed.
    #[doc(alias = "BTF_INT_SIGNED")]
    pub const SIGNED: Self = Self(1);
    /// A character.
    #[doc(alias = "BTF_INT_CHAR")]
    pub const CHAR: Self = Self(2);
    /// A boolean.
    #[doc(alias = "BTF_INT_BOOL")]
    pub const BOOL: Self = Self(4);

    /// Whether the signed bit is set.
    pub fn is_signed(self) -> bool {
        self.0 & Self::SIGNED.0 != 0
    }

    /// Whether the character bit is set.
    pub fn is_char(self) -> bool {
        self.0 & Self::CHAR.0 != 0
    }

    /// Whether the boolean bit is set.
    pub fn is_bool(self) -> bool {
        self.0 & Self::BOOL.0 != 0
    }
}

/// Linkage of a function or variable: `BTF_FUNC_*` and `BTF_VAR_*`, which use the same numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Linkage(pub u32);

impl Linkage {
    /// Local to its file.
    #[doc(alias("BTF_FUNC_STATIC", "BTF_VAR_STATIC"))]
    pub const STATIC: Self = Self(0);
    /// Defined here, visible everywhere.
    #[doc(alias("BTF_FUNC_GLOBAL", "BTF_VAR_GLOBAL_ALLOCATED"))]
    pub const GLOBAL: Self = Self(1);
    /// Declared here, defined elsewhere.
    #[doc(alias("BTF_FUNC_EXTERN", "BTF_VAR_GLOBAL_EXTERN"))]
    pub const EXTERN: Self = Self(2);
}

impl Linkage {
    /// `static`, `global` or `extern`, when it is one of them.
    pub fn known_name(self) -> Option<&'static str> {
        match self {
            Self::STATIC => Some("static"),
            Self::GLOBAL => Some("global"),
            Self::EXTERN => Some("extern"),
            _ => None,
        }
    }
}

impl fmt::Display for Linkage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(name),
            None => write!(f, "linkage {}", self.0),
        }
    }
}

impl fmt::Debug for Linkage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
