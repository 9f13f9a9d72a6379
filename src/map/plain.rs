use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What keys and values of typed maps are: data without padding, of which every bit pattern is valid.
///
/// Every type with these four traits has it; derive them with the `zerocopy` crate:
///
/// ```
/// use skep::map::PlainData;
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Flow {
///     source: [u8; 4],
///     port: u16,
///     padding: [u8; 2],
/// }
///
/// fn is_plain<T: PlainData>() {}
/// is_plain::<Flow>();
/// is_plain::<[u64; 3]>();
/// ```
pub trait PlainData: FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> PlainData for T {}
