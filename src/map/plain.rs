use std::fmt;
use std::marker::PhantomData;
use std::num::Wrapping;
use std::ops::{Deref, DerefMut};

use zerocopy::byteorder::{BigEndian, LittleEndian};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unalign};

use super::layout::{Layout, LayoutKind};

/// What keys and values of typed maps are: data without padding, of which every bit pattern is valid, and whose layout is
/// known, so that it can be compared with the types of the map.
///
/// Numbers and arrays have it, `zerocopy`'s numbers of a fixed byte order too. A struct derives it, beside four traits of
/// the `zerocopy` crate:
///
/// ```
/// use skep::map::PlainData;
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
/// #[repr(C)]
/// struct Flow {
///     source: [u8; 4],
///     port: u16,
///     padding: [u8; 2],
/// }
///
/// assert_eq!(Flow::SHAPE.size, 8);
/// assert_eq!(Flow::SHAPE.to_string(), "Flow { source: [u8; 4], port: u16, padding: [u8; 2] }");
/// ```
///
/// A type of another crate, which has those four traits but no layout, is used as [`Opaque`].
pub trait PlainData: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// What lies where in a value.
    const SHAPE: &'static Layout;
}

/// What zerocopy proves, in one name, for the code that the derive makes.
#[doc(hidden)]
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Plain for T {}

/// A type whose layout skep does not know: of a map's types, only their size is compared with it.
///
/// It is for types of other crates, and for those that lie otherwise than the map's types say, on purpose.
///
/// ```
/// use skep::map::{Array, Map, Opaque};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// mod other_crate {
///     # use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///     #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
///     #[repr(C)]
///     pub struct Rgba(pub [u8; 4]);
/// }
/// use other_crate::Rgba;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::ARRAY, 4, 4, 1))?;
/// let colours: Array<Opaque<Rgba>> = map.typed()?;
/// colours.set(0, &Opaque(Rgba([255, 0, 0, 255])), UpdateFlags::empty())?;
/// assert_eq!(colours.get(0)?.map(|colour| colour.0.0), Some([255, 0, 0, 255]));
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Opaque<T>(pub T);

impl<T: Plain> PlainData for Opaque<T> {
    const SHAPE: &'static Layout = &Layout { name: "Opaque", size: size_of::<T>(), kind: LayoutKind::Opaque };
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Opaque<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Opaque<T> {
    fn from(value: T) -> Opaque<T> {
        Opaque(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! plain {
    ($($kind:expr => $($ty:ty),+ $(,)?;)+) => {$($(
        impl PlainData for $ty {
            const SHAPE: &'static Layout =
                &Layout { name: stringify!($ty), size: size_of::<$ty>(), kind: $kind };
        }
    )+)+};
}

plain! {
    LayoutKind::Integer { signed: false } => u8, u16, u32, u64, u128, usize;
    LayoutKind::Integer { signed: true } => i8, i16, i32, i64, i128, isize;
    LayoutKind::Float => f32, f64;
}

macro_rules! ordered {
    ($($kind:expr => $($ty:ident),+;)+) => {$($(
        impl PlainData for zerocopy::byteorder::$ty<BigEndian> {
            const SHAPE: &'static Layout =
                &Layout { name: concat!(stringify!($ty), "<BigEndian>"), size: size_of::<Self>(), kind: $kind };
        }

        impl PlainData for zerocopy::byteorder::$ty<LittleEndian> {
            const SHAPE: &'static Layout =
                &Layout { name: concat!(stringify!($ty), "<LittleEndian>"), size: size_of::<Self>(), kind: $kind };
        }
    )+)+};
}

ordered! {
    LayoutKind::Integer { signed: false } => U16, U32, U64, U128, Usize;
    LayoutKind::Integer { signed: true } => I16, I32, I64, I128, Isize;
    LayoutKind::Float => F32, F64;
}

/// The type of keys that a map does not have.
impl PlainData for () {
    const SHAPE: &'static Layout = &Layout { name: "()", size: 0, kind: LayoutKind::Struct(&[]) };
}

impl<T> PlainData for PhantomData<T>
where
    PhantomData<T>: Plain,
{
    const SHAPE: &'static Layout = &Layout { name: "PhantomData", size: 0, kind: LayoutKind::Struct(&[]) };
}

impl<T: PlainData, const N: usize> PlainData for [T; N] {
    const SHAPE: &'static Layout =
        &Layout { name: "", size: size_of::<Self>(), kind: LayoutKind::Array { element: T::SHAPE, len: N } };
}

impl<T: PlainData> PlainData for Wrapping<T>
where
    Wrapping<T>: Plain,
{
    const SHAPE: &'static Layout = T::SHAPE;
}

impl<T: PlainData> PlainData for Unalign<T>
where
    Unalign<T>: Plain,
{
    const SHAPE: &'static Layout = T::SHAPE;
}
