//! Derives meshfilter's `Deserialize` of `meshfilter-json`.
//!
//! What serde derives is compiled anew for every type, some kilobytes each, to be fast; a policy document is read once.
//! What is derived here is a list of names and one assignment for each member; the work is done by one function for all
//! types. It reads the same attributes, those of `serde`, so that whatever else reads them agrees.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, LitStr, Result, parse_macro_input};

/// For structs with `#[serde(rename_all = "camelCase", deny_unknown_fields, default)]`, whose members may have `rename`
/// and `alias`, and for enums of plain names with `rename_all`.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    implement(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn implement(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = Attributes::read(&input.attrs)?;
    match &input.data {
        Data::Struct(data) => object(&input.ident, &attributes, &data.fields),
        Data::Enum(data) => word(&input.ident, &attributes, data),
        Data::Union(_) => Err(Error::new_spanned(input, "a union cannot be read")),
    }
}

fn object(name: &Ident, attributes: &Attributes, fields: &Fields) -> Result<TokenStream> {
    // There is no other way to read one; who writes it should see so.
    if !attributes.deny_unknown_fields || !attributes.default {
        return Err(Error::new_spanned(name, "needs #[serde(deny_unknown_fields, default)]"));
    }
    let mut names = Vec::new();
    let mut arms = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let own = Attributes::read(&field.attrs)?;
        let ident =
            field.ident.as_ref().ok_or_else(|| Error::new_spanned(field, "a member without a name"))?;
        let rename = own.rename.map_or_else(|| attributes.rename(&camel_case(ident)), Ok)?;
        let alias = own.alias;
        let kind = &field.ty;
        names.push(quote!((&[#rename #(, #alias)*], <#kind as ::meshfilter_json::Deserialize>::MAY_STAND)));
        arms.push(quote!(#index => member.fill(&mut this.#ident),));
    }
    Ok(quote! {
        impl ::meshfilter_json::Deserialize for #name {
            fn read(member: ::meshfilter_json::Member<'_>) -> Option<Self> {
                let mut this = Self::default();
                let read = member.object(&[#(#names),*], &mut |index, member| match index {
                    #(#arms)*
                    _ => {}
                });
                read.then_some(this)
            }

            fn stand_in() -> Option<Self> {
                Some(Self::default())
            }
        }
    })
}

fn word(name: &Ident, attributes: &Attributes, data: &syn::DataEnum) -> Result<TokenStream> {
    let mut words = Vec::new();
    let mut arms = Vec::new();
    for (index, variant) in data.variants.iter().enumerate() {
        if !variant.fields.is_empty() {
            return Err(Error::new_spanned(variant, "only plain names can be read"));
        }
        words.push(attributes.rename(&camel_case(&variant.ident))?);
        let ident = &variant.ident;
        arms.push(quote!(#index => Some(Self::#ident),));
    }
    Ok(quote! {
        impl ::meshfilter_json::Deserialize for #name {
            fn read(member: ::meshfilter_json::Member<'_>) -> Option<Self> {
                match member.word(&[#(#words),*])? {
                    #(#arms)*
                    _ => None,
                }
            }
        }
    })
}

/// `fixed_delay`, `FixedDelay` → `fixedDelay`.
fn camel_case(ident: &Ident) -> String {
    let mut camel = String::new();
    let mut upper = false;
    for letter in ident.unraw().to_string().chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                camel.extend(letter.to_uppercase());
                upper = false;
            }
            letter if camel.is_empty() => camel.extend(letter.to_lowercase()),
            letter => camel.push(letter),
        }
    }
    camel
}

/// What `#[serde(…)]` says.
#[derive(Default)]
struct Attributes {
    rename_all: Option<LitStr>,
    rename: Option<String>,
    alias: Vec<String>,
    deny_unknown_fields: bool,
    default: bool,
}

impl Attributes {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut read = Attributes::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                let is = |name: &str| meta.path.is_ident(name);
                if is("rename_all") {
                    read.rename_all = Some(meta.value()?.parse()?);
                } else if is("rename") {
                    read.rename = Some(meta.value()?.parse::<LitStr>()?.value());
                } else if is("alias") {
                    read.alias.push(meta.value()?.parse::<LitStr>()?.value());
                } else if is("deny_unknown_fields") {
                    read.deny_unknown_fields = true;
                } else if is("default") {
                    read.default = true;
                } else {
                    return Err(meta.error("not known to this derive"));
                }
                Ok(())
            })?;
        }
        Ok(read)
    }

    /// A name in camel case in the case that `rename_all` says.
    fn rename(&self, camel: &str) -> Result<String> {
        let Some(rule) = &self.rename_all else {
            return Err(Error::new(proc_macro2::Span::call_site(), "needs #[serde(rename_all = …)]"));
        };
        match rule.value().as_str() {
            "camelCase" => Ok(camel.to_owned()),
            "UPPERCASE" => Ok(camel.to_uppercase()),
            "SCREAMING_SNAKE_CASE" => Ok(camel.chars().fold(String::new(), |mut screaming, letter| {
                if letter.is_uppercase() {
                    screaming.push('_');
                }
                screaming.extend(letter.to_uppercase());
                screaming
            })),
            _ => Err(Error::new_spanned(rule, "use camelCase, UPPERCASE or SCREAMING_SNAKE_CASE")),
        }
    }
}
