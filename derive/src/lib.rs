//! The derive of `skep::map::PlainData`. Use it from there: the trait and the macro have one name.
#![forbid(unsafe_code)]

mod plain;

use proc_macro::TokenStream;

/// Describes a struct to skep, so that a typed map can compare it with the types of the map, member by member.
///
/// It is for `#[repr(C)]` and `#[repr(transparent)]` structs, also packed ones, all of whose fields are plain data, and
/// stands beside zerocopy's derives, which prove that there is no padding and that every bit pattern is a value:
///
/// ```ignore
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
/// #[repr(C)]
/// struct Flow {
///     source: [u8; 4],
///     port: u16,
///     padding: [u8; 2],
/// }
/// ```
///
/// Where skep is known by another path, `#[plain_data(crate = "path::to::skep")]` names it.
#[proc_macro_derive(PlainData, attributes(plain_data))]
pub fn derive_plain_data(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    plain::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
