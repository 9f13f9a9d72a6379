//! `#[derive(PlainData)]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, Fields, Index, Path, Result, parse_quote};

/// The implementation for a struct, or what is wrong with it.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = match &input.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "an enum is no plain data, since not every bit pattern is one of its values: use the integer that \
                 holds it",
            ));
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "the layout of a union cannot be derived: wrap it in `skep::map::Opaque`, which has only a size",
            ));
        }
    };
    let krate = attributes(input)?;

    let members = match fields {
        Fields::Named(fields) => fields.named.iter().collect::<Vec<_>>(),
        Fields::Unnamed(fields) => fields.unnamed.iter().collect(),
        Fields::Unit => Vec::new(),
    };
    let members = members.into_iter().enumerate().map(|(nth, field)| {
        let ty = &field.ty;
        let (member, name) = match &field.ident {
            Some(ident) => (ident.to_token_stream(), ident.to_string()),
            None => (Index::from(nth).to_token_stream(), nth.to_string()),
        };
        let name = name.trim_start_matches("r#");
        quote! {
            #krate::map::Field {
                name: #name,
                offset: ::core::mem::offset_of!(Self, #member),
                layout: <#ty as #krate::map::PlainData>::SHAPE,
            }
        }
    });

    let ident = &input.ident;
    let name = ident.to_string();
    let mut generics = input.generics.clone();
    let parameters: Vec<_> = generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    if !parameters.is_empty() {
        // What zerocopy demands of the parameters is for its derives to say.
        let clause = generics.make_where_clause();
        clause.predicates.push(parse_quote!(Self: #krate::map::Plain));
        for parameter in parameters {
            clause.predicates.push(parse_quote!(#parameter: #krate::map::PlainData));
        }
    }
    let (impl_generics, type_generics, clause) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #krate::map::PlainData for #ident #type_generics #clause {
            const SHAPE: &'static #krate::map::Layout = &#krate::map::Layout {
                name: #name,
                size: ::core::mem::size_of::<Self>(),
                kind: #krate::map::LayoutKind::Struct(&[#(#members),*]),
            };
        }
    })
}

/// Checks that the layout is fixed by a `repr`, and reads where skep is.
fn attributes(input: &DeriveInput) -> Result<Path> {
    let mut krate: Path = parse_quote!(::skep);
    let mut fixed = false;
    for attribute in &input.attrs {
        if attribute.path().is_ident("repr") {
            attribute.parse_nested_meta(|meta| {
                fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
                // `align(8)` and `packed(2)` have an argument.
                if meta.input.peek(syn::token::Paren) {
                    let argument;
                    syn::parenthesized!(argument in meta.input);
                    argument.parse::<syn::LitInt>()?;
                }
                Ok(())
            })?;
        } else if attribute.path().is_ident("plain_data") {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("crate") {
                    return Err(meta.error("the only option is `crate = \"path::to::skep\"`"));
                }
                krate = meta.value()?.parse::<syn::LitStr>()?.parse()?;
                Ok(())
            })?;
        }
    }
    if fixed {
        return Ok(krate);
    }
    Err(Error::new_spanned(
        &input.ident,
        "the compiler may order the fields as it likes: add `#[repr(C)]` or `#[repr(transparent)]`",
    ))
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::derive;

    fn refused(input: &syn::DeriveInput) -> String {
        derive(input).unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_fixed_layout_is_refused() {
        assert!(
            refused(&parse_quote!(
                struct A {
                    a: u32,
                }
            ))
            .contains("#[repr(C)]")
        );
        assert!(
            refused(&parse_quote!(
                #[repr(align(8))]
                struct A {
                    a: u32,
                }
            ))
            .contains("#[repr(C)]")
        );
        assert!(
            refused(&parse_quote!(
                #[repr(u8)]
                enum A {
                    B,
                }
            ))
            .contains("the integer that holds it")
        );
        assert!(refused(&parse_quote!(#[repr(C)] union A { a: u32 })).contains("Opaque"));
        let unknown = refused(&parse_quote!(
            #[repr(C)]
            #[plain_data(skip)]
            struct A {
                a: u32,
            }
        ));
        assert!(unknown.contains("the only option"), "{unknown}");
    }

    #[test]
    fn fields_are_described() {
        let text = derive(&parse_quote!(
            #[repr(C, packed(2))]
            struct A {
                r#type: u32,
                b: [u8; 4],
            }
        ));
        let text = text.unwrap().to_string();
        assert!(text.contains("name : \"type\""), "{text}");
        assert!(text.contains(":: skep :: map :: PlainData"), "{text}");
        assert!(text.contains("offset_of ! (Self , r#type)"), "{text}");
    }

    #[test]
    fn skep_may_be_elsewhere() {
        let text = derive(&parse_quote!(
            #[repr(transparent)]
            #[plain_data(crate = "other::skep")]
            struct A(u32);
        ));
        let text = text.unwrap().to_string();
        assert!(text.contains("impl other :: skep :: map :: PlainData for A"), "{text}");
        assert!(text.contains("offset_of ! (Self , 0)"), "{text}");
    }
}
