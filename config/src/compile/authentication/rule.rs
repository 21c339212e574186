use std::rc::Rc;
use std::time::Duration;

use super::super::authorization::Section;
use super::super::common::{claim, header_name, positive, string_match};
use super::super::{Context, Path};
use super::keys;
use crate::document::{Document, JwtRule};
use meshfilter_core::matchers::{Pattern, StringMatch};
use meshfilter_core::policy::authentication::{
    Audiences, HeaderLocation, KeySource, Locations, Output, RequiredClaims, Rule, SpaceDelimited, Validity,
};

/// Claims that hold several values in one string, whatever a rule says, as in Istio.
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

/// Compiles one rule; `None` after an error in its keys.
pub fn compile(
    source: &JwtRule,
    name: Rc<str>,
    path: &Path<'_>,
    document: &Document,
    cx: &Context<'_>,
) -> Option<Rule> {
    let keys = keys::compile(source, path, cx);
    let algorithms = keys::algorithms(source.algorithms.as_deref(), path, cx);
    if let Some(KeySource::Inline(keys)) = &keys
        && !keys.serves(algorithms)
    {
        cx.warn(
            &path.field("algorithms"),
            "no key of the set is for one of these, so that every token is refused; shared secrets (kty oct) are for HS256, \
             HS384 and HS512, which have to be listed",
        );
    }
    Some(Rule {
        name,
        issuers: issuers(source, path, cx),
        audiences: audiences(source, path, cx),
        locations: locations(source, path, cx),
        forward_original_token: source.forward_original_token.unwrap_or(false),
        output: output(source, path, cx),
        space_delimited_claims: space_delimited(source, path, cx),
        algorithms,
        validity: Validity {
            clock_skew: seconds(source.clock_skew.map_or(Duration::from_secs(60), |skew| skew.0)),
            require_expiration: source.require_expiration.unwrap_or(false),
            max_token_age: positive(source.max_token_age, "maxTokenAge", path, cx).map(seconds),
            max_lifetime: positive(source.max_lifetime, "maxLifetime", path, cx).map(seconds),
        },
        required_claims: required_claims(source, path, document, cx),
        // The last, so that all the others were looked at.
        keys: keys?,
    })
}

fn space_delimited(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Vec<SpaceDelimited> {
    let place = path.field("spaceDelimitedClaims");
    let read = |name: &str, place: &Path<'_>| {
        Some(SpaceDelimited { name: name.to_owned(), path: claim(name, place, cx)? })
    };
    let given = source.space_delimited_claims.iter().enumerate();
    let always = SPACE_DELIMITED.into_iter().filter_map(|name| read(name, &place));
    always.chain(given.filter_map(|(index, name)| read(name, &place.index(index)))).collect()
}

/// Whole seconds, rounded up: the times in a token have no parts.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

fn issuers(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Vec<StringMatch> {
    match (&source.issuer, &source.issuers) {
        (Some(_), Some(_)) => cx.errors.add(path, "both issuer and issuers; keep one of them"),
        (None, None) => {
            cx.errors
                .add(path, "no issuer; say in issuer whose tokens these are, or in issuers how it looks");
        }
        (Some(issuer), None) if issuer.is_empty() => {
            cx.errors.add(&path.field("issuer"), "an empty issuer; use the iss of the tokens");
        }
        (None, Some(issuers)) if issuers.is_empty() => {
            cx.errors.add(&path.field("issuers"), "an empty list matches no issuer; add one");
        }
        _ => {}
    }
    let one =
        source.issuer.iter().map(|issuer| StringMatch::Present(Pattern::Exact(issuer.as_bytes().into())));
    let place = path.field("issuers");
    let several = source.issuers.iter().flatten().enumerate();
    one.chain(several.map(|(index, issuer)| string_match(issuer, &place.index(index), cx))).collect()
}

fn audiences(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Audiences {
    if source.audiences.as_ref().is_some_and(Vec::is_empty) {
        cx.errors.add(&path.field("audiences"), "an empty list allows no audience; add one or leave it out");
    }
    Audiences::new(source.audiences.iter().flatten().map(String::as_str))
}

fn locations(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Locations {
    let place = path.field("fromHeaders");
    let headers = source.from_headers.iter().enumerate().map(|(index, header)| {
        let place = place.index(index);
        let prefix = header.prefix.clone().unwrap_or_default();
        let Some(name) = &header.name else {
            cx.errors.add(&place, "\"name\" is missing; add the header's name");
            return HeaderLocation { name: String::new(), prefix };
        };
        if name.starts_with(':') || name.eq_ignore_ascii_case("cookie") {
            cx.errors.add(
                &place.field("name"),
                format_args!("\"{name}\" cannot hold a token; use another header, fromParams or fromCookies"),
            );
        }
        HeaderLocation { name: header_name(name, &place.field("name"), cx), prefix }
    });
    let texts = |texts: &[String], name: &str| {
        let place = path.field(name);
        for (index, text) in texts.iter().enumerate() {
            // A cookie's name that has one of these is never found.
            if text.is_empty() || (name == "fromCookies" && text.contains(['=', ';', ' '])) {
                cx.errors.add(
                    &place.index(index),
                    format_args!("\"{text}\" is not a name; use one such as token"),
                );
            }
        }
        texts.to_vec()
    };
    Locations::new(
        headers.collect(),
        texts(&source.from_params, "fromParams"),
        texts(&source.from_cookies, "fromCookies"),
    )
}

fn output(source: &JwtRule, path: &Path<'_>, cx: &Context<'_>) -> Output {
    let place = path.field("outputClaimToHeaders");
    let claims = source.output_claim_to_headers.iter().enumerate().filter_map(|(index, entry)| {
        let place = place.index(index);
        for (name, given) in [("header", &entry.header), ("claim", &entry.claim)] {
            if given.is_none() {
                cx.errors.add(&place, format_args!("\"{name}\" is missing; add it"));
            }
        }
        let header = header_name(entry.header.as_ref()?, &place.field("header"), cx);
        Some((header, claim(entry.claim.as_ref()?, &place.field("claim"), cx)?))
    });
    let payload = source.output_payload_to_header.as_ref();
    Output {
        payload: payload.map(|name| header_name(name, &path.field("outputPayloadToHeader"), cx)),
        claims: claims.collect(),
    }
}

/// Nothing, where nothing is required.
fn required_claims(
    source: &JwtRule,
    path: &Path<'_>,
    document: &Document,
    cx: &Context<'_>,
) -> Option<RequiredClaims> {
    if source.required_claims.is_empty() {
        return None;
    }
    let section = Section::new(document, cx);
    let rule = section.required_claims(&source.required_claims, &path.field("requiredClaims"));
    Some(RequiredClaims { rule, sources: section.sources() })
}
